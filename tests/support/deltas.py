"""A second writer of `ferry.delta/1`, by the letter of docs/release-format.md, with no search."""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from converter.package_folder import file_entry
from edge_runtime.package import open_package
from ota_contract.manifest import MANIFEST_NAME, Delta, FileRole, dump_release

__all__ = ["Copy", "Diff", "Insert", "Step", "number", "packed", "pad", "put_delta", "signed", "written"]

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


def pad(folder: Path, data: bytes) -> None:
    """Give the one variant of a tiny package this second file, in place of one it may have."""
    release, _ = open_package(folder)
    path = "variants/onnx-fp32/padding.bin"
    (folder / path).write_bytes(data)
    (variant,) = release.variants
    files = (variant.model_file, file_entry(folder, path, FileRole.PART))
    size = sum(file.length_bytes for file in files)
    variant = replace(variant, files=files, metrics=replace(variant.metrics, size_bytes=size))
    (folder / MANIFEST_NAME).write_bytes(dump_release(replace(release, variants=(variant,))))


def put_delta(folder: Path, data: bytes, base: bytes, target: bytes) -> Delta:
    """Let a package name a delta, whatever it makes."""
    release, _ = open_package(folder)
    path = f"deltas/{len(release.deltas)}.delta"
    (folder / "deltas").mkdir(exist_ok=True)
    (folder / path).write_bytes(data)
    delta = Delta(
        file=file_entry(folder, path, FileRole.DELTA),
        base_sha256=hashlib.sha256(base).hexdigest(),
        target_sha256=hashlib.sha256(target).hexdigest(),
    )
    (folder / MANIFEST_NAME).write_bytes(dump_release(replace(release, deltas=(*release.deltas, delta))))
    return delta
