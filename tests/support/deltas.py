"""A second writer of `ferry.delta/1`, by the letter of docs/release-format.md, with no search."""

from __future__ import annotations

import lzma
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Copy", "Diff", "Insert", "Step", "number", "packed", "signed", "written"]

_BLOCK_BYTES = 262_144


@dataclass(frozen=True, slots=True)
class Copy:
    """So many bytes of the base, from an offset."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Insert:
    """Bytes of its own."""

    data: bytes
    width: int = 1


@dataclass(frozen=True, slots=True)
class Diff:
    """The base's elements from an offset, changed to those of `target`."""

    offset: int
    base: bytes
    target: bytes
    width: int = 1


Step = Copy | Insert | Diff


def written(steps: Iterable[Step]) -> bytes:
    """The delta of those steps."""
    plain, position = b"", 0
    for step in steps:
        if isinstance(step, Insert):
            plain += bytes([0x20 | step.width.bit_length() - 1]) + number(len(step.data))
            plain += _planes(step.data, step.width)
            continue
        length = step.length if isinstance(step, Copy) else len(step.target)
        code = 0x10 if isinstance(step, Copy) else 0x30 | step.width.bit_length() - 1
        plain += bytes([code]) + signed(step.offset - position) + number(length)
        position = step.offset + length
        if isinstance(step, Diff):
            plain += _planes(_differences(step), step.width)
    return packed(plain + b"\x00")


def packed(plain: bytes) -> bytes:
    """What goes around the instructions."""
    return b"ferry.delta/1\n" + lzma.compress(plain, check=lzma.CHECK_NONE, preset=0)


def number(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F)
    return bytes(digit | 0x80 for digit in digits[:-1]) + bytes(digits[-1:])


def signed(value: int) -> bytes:
    """Negative numbers between the others."""
    return number(2 * value if value >= 0 else -2 * value - 1)


def _differences(step: Diff) -> bytes:
    folded = b""
    bits = 8 * step.width
    for begin in range(0, len(step.target), step.width):
        new, old = (
            int.from_bytes(data[begin : begin + step.width], "little") for data in (step.target, step.base)
        )
        difference = (new - old) % 2**bits
        if difference >= 2 ** (bits - 1):
            difference -= 2**bits
        value = 2 * difference if difference >= 0 else -2 * difference - 1
        folded += value.to_bytes(step.width, "little")
    return folded


def _planes(data: bytes, width: int) -> bytes:
    blocks = (data[begin : begin + _BLOCK_BYTES] for begin in range(0, len(data), _BLOCK_BYTES))
    return b"".join(block[width - 1 - index :: width] for block in blocks for index in range(width))
