"""What a delta does, step by step, and how that becomes `ferry.delta/1`."""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from ota_contract.delta import BLOCK_BYTES, COPY, DIFF, END, INSERT, MAGIC

__all__ = ["Kind", "Step", "folded_differences", "joined", "planes_of", "written"]

Octets = NDArray[np.uint8]

_DICTIONARY_BYTES = 1 << 20
"""What every reader of the format has."""
_NOISE = {"lc": 0, "lp": 0, "pb": 0}
_TEXT = {"lc": 3, "lp": 0, "pb": 2}
"""Literals coded without regard to their neighbours, or with: which is shorter depends on the model."""
_PATIENT_BYTES = 16 * 1024 * 1024
"""Up to here the compressor takes all the time it can use, and both ways are tried on the whole."""
_SAMPLE_BYTES = 4 * 1024 * 1024


class Kind(Enum):
    """Kinds of steps, by their code."""

    COPY = COPY
    INSERT = INSERT
    DIFF = DIFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Makes the next `length` bytes of the new file, which are those at `target`."""

    kind: Kind
    target: int
    length: int
    base: int = 0
    """Where it reads the earlier file; means nothing for INSERT."""
    width: int = 1


def joined(steps: Iterable[Step]) -> list[Step]:
    """The same with copies of one stretch of the base made one, and inserts of bytes that adjoin."""
    result: list[Step] = []
    for step in steps:
        last = result[-1] if result else None
        if (
            last is not None
            and last.kind is step.kind
            and last.width == step.width == 1
            and (step.kind is Kind.INSERT or step.base == last.base + last.length)
        ):
            result[-1] = replace(last, length=last.length + step.length)
        else:
            result.append(step)
    return result


def written(steps: Sequence[Step], base: Octets, target: Octets) -> bytes:
    """The delta."""
    plain = b"".join(_instructions(steps, base, target))
    return MAGIC + _compressed(plain)


def _instructions(steps: Iterable[Step], base: Octets, target: Octets) -> Iterator[bytes]:
    position = 0
    for step in steps:
        code = bytes([step.kind.value | (step.width.bit_length() - 1)])
        new = target[step.target : step.target + step.length]
        if step.kind is Kind.INSERT:
            yield code + _number(step.length)
            yield from _blocks(new, step.width)
            continue
        yield code + _number(_folded(step.base - position)) + _number(step.length)
        position = step.base + step.length
        if step.kind is Kind.DIFF:
            old = base[step.base : step.base + step.length]
            yield from _blocks(folded_differences(old, new, step.width), step.width)
    yield bytes([END])


def folded_differences(old: Octets, new: Octets, width: int) -> Octets:
    """What is to be added to elements, small numbers for small differences of either sign."""
    kind = np.dtype(f"<i{width}")
    before, after = (np.ascontiguousarray(part).view(kind) for part in (old, new))
    with np.errstate(over="ignore"):
        difference = after - before
        folded: Octets = ((difference << 1) ^ (difference >> (8 * width - 1))).view(np.uint8)
    return folded


def planes_of(elements: Octets, width: int) -> Octets:
    """The bytes of elements by their significance, a plane a row, the highest first."""
    return elements.reshape(-1, width).T[::-1]


def _blocks(elements: Octets, width: int) -> Iterator[bytes]:
    for begin in range(0, len(elements), BLOCK_BYTES):
        yield planes_of(elements[begin : begin + BLOCK_BYTES], width).tobytes()


def _compressed(plain: bytes) -> bytes:
    if len(plain) <= _PATIENT_BYTES:
        preset = 9 | lzma.PRESET_EXTREME
        return min((_xz(plain, preset, way) for way in (_TEXT, _NOISE)), key=len)
    sample = plain[:_SAMPLE_BYTES]
    return _xz(plain, 6, min((_TEXT, _NOISE), key=lambda way: len(_xz(sample, 6, way))))


def _xz(plain: bytes, preset: int, way: dict[str, int]) -> bytes:
    size = min(_DICTIONARY_BYTES, max(4096, len(plain)))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": size, **way}]
    return lzma.compress(plain, check=lzma.CHECK_NONE, filters=filters)


def _number(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:  # noqa: PLR2004
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _folded(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1
