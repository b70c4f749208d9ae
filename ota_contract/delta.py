"""Deltas, `ferry.delta/1`: make a file from an earlier one and a few instructions.

`docs/release-format.md` is the prose; `docs/adr/0004-deltas.md` has the measurements behind it. A delta is
read as a stream, the earlier file by seeking, so that a device needs a few megabytes whatever their size.
Nothing here vouches for what is made: the caller compares its SHA-256 with the signed one.
"""

from __future__ import annotations

import lzma
from functools import lru_cache
from typing import BinaryIO, Protocol

from ota_contract.errors import DeltaError

__all__ = [
    "BLOCK_BYTES",
    "COPY",
    "DIFF",
    "END",
    "INSERT",
    "MAGIC",
    "MAX_INSTRUCTIONS",
    "WIDTHS",
    "apply_delta",
]

MAGIC = b"ferry.delta/1\n"
END, COPY, INSERT, DIFF = 0x00, 0x10, 0x20, 0x30
"""Instructions: the upper half of a byte. The lower is the binary logarithm of the element width."""
WIDTHS = (1, 2, 4, 8)
BLOCK_BYTES = 256 * 1024
"""Data of an instruction comes in blocks of this length, each split into planes of its own."""
MAX_INSTRUCTIONS = 1 << 20
"""A stream of ever so many one-byte copies would keep a device busy for minutes."""

_MEMORY_BYTES = 2 * 1024 * 1024
"""For the decompressor; a dictionary of one megabyte fits."""
_CHUNK_BYTES = 64 * 1024
_MAX_NUMBER_BYTES = 9
_SEVEN_BITS, _GOES_ON = 0x7F, 0x80


class Writer(Protocol):
    """What the new file is written to."""

    def write(self, data: bytes, /) -> object:
        """Take all of it."""


def apply_delta(base: BinaryIO, delta: BinaryIO, out: Writer, *, max_bytes: int) -> int:
    """Write the file a delta makes from `base`; returns its length.

    Args:
        base: The earlier file, seekable; read where instructions point.
        delta: Untrusted bytes, read once from where it stands.
        out: Takes the new file in pieces of at most `BLOCK_BYTES`; after an error it holds a part of it.
        max_bytes: Never one byte more is written.

    Raises:
        DeltaError: The stream is malformed, reaches beyond `base`, or makes more than `max_bytes`.
    """
    if delta.read(len(MAGIC)) != MAGIC:
        raise DeltaError(f"not a delta: it does not begin with {MAGIC.decode().strip()}")
    stream = _Stream(delta)
    base_bytes = base.seek(0, 2)  # to the end
    room, position = max_bytes, 0
    for _ in range(MAX_INSTRUCTIONS):
        code = stream.take(1)[0]
        if code == END:
            stream.finish()
            return max_bytes - room
        kind, width = code & 0xF0, 1 << (code & 0x0F)
        if kind not in (COPY, INSERT, DIFF) or width not in WIDTHS or (kind == COPY and width > 1):
            raise DeltaError(f"no instruction has the code {code:#04x}")
        shift = 0 if kind == INSERT else _signed(stream.number())
        length = stream.number()
        if length == 0 or length % width:
            raise DeltaError(f"an instruction of {length} bytes, in elements of {width}")
        if length > room:
            raise DeltaError(f"it makes more than {max_bytes} bytes")
        if kind != INSERT:
            position += shift
            if not 0 <= position <= base_bytes - length:
                raise DeltaError("it reads outside its base")
            base.seek(position)
            position += length
        _make(kind, width, length, base, stream, out)
        room -= length
    raise DeltaError(f"more than {MAX_INSTRUCTIONS} instructions")


def _make(kind: int, width: int, length: int, base: BinaryIO, stream: _Stream, out: Writer) -> None:
    while length:
        count = min(length, BLOCK_BYTES)
        if kind == INSERT:
            out.write(_joined(stream.take(count), width))
        else:
            old = base.read(count)
            if len(old) != count:
                raise DeltaError("its base has become shorter")
            out.write(old if kind == COPY else _sum(old, _joined(stream.take(count), width), width))
        length -= count


def _joined(planes: bytes, width: int) -> bytes:
    """Elements from their bytes: the most significant of each come first, the least significant last."""
    if width == 1:
        return planes
    elements, count = bytearray(len(planes)), len(planes) // width
    for index in range(width):
        elements[index::width] = planes[(width - 1 - index) * count : (width - index) * count]
    return bytes(elements)


def _sum(old: bytes, folded: bytes, width: int) -> bytes:
    """Add differences to elements, modulo 2 ** (8 * width), all elements of a block at a time.

    A difference d is folded to 2d, or -2d - 1 where it is negative, so that small ones are small numbers.
    The block is one long integer here: a hundred megabytes a second, where a loop over elements makes one.
    """
    low, high = _lanes(width, len(old))
    y = int.from_bytes(folded, "little")
    odd = y & low
    difference = ((y ^ odd) >> 1) ^ ((odd << 8 * width) - odd)
    x = int.from_bytes(old, "little")
    top_x, top_d = x & high, difference & high
    # The top bits are kept out of the addition, so that no carry leaves its element.
    return (((x ^ top_x) + (difference ^ top_d)) ^ top_x ^ top_d).to_bytes(len(old), "little")


@lru_cache(maxsize=len(WIDTHS))
def _lanes(width: int, length: int) -> tuple[int, int]:
    """The lowest and the highest bit of every element."""
    count, rest = length // width, bytes(width - 1)
    return int.from_bytes((b"\x01" + rest) * count, "little"), int.from_bytes(
        (rest + b"\x80") * count, "little"
    )


def _signed(number: int) -> int:
    return number >> 1 if number % 2 == 0 else -(number >> 1) - 1


class _Stream:
    """What a delta's compressed rest holds, never more of it in memory than is asked for and a chunk."""

    def __init__(self, delta: BinaryIO) -> None:
        self._delta = delta
        self._xz = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_MEMORY_BYTES)
        self._ready, self._at = b"", 0

    def take(self, length: int) -> bytes:
        """Exactly so many bytes."""
        while len(self._ready) - self._at < length:
            if self._xz.eof:
                raise DeltaError("it ends in the middle of an instruction")
            self._ready = self._ready[self._at :] + self._more()
            self._at = 0
        self._at += length
        return self._ready[self._at - length : self._at]

    def number(self) -> int:
        """An unsigned integer, seven bits a byte, the lowest first."""
        value = 0
        for index in range(_MAX_NUMBER_BYTES):
            byte = self.take(1)[0]
            value |= (byte & _SEVEN_BITS) << (7 * index)
            if byte < _GOES_ON:
                return value
        raise DeltaError(f"a number of more than {_MAX_NUMBER_BYTES} bytes")

    def finish(self) -> None:
        """Nothing may follow: one file, one meaning."""
        while not self._xz.eof and self._at == len(self._ready):
            self._ready, self._at = self._more(), 0
        if self._at < len(self._ready) or self._xz.unused_data or self._delta.read(1):
            raise DeltaError("something follows its end")

    def _more(self) -> bytes:
        data = b""
        if self._xz.needs_input:
            data = self._delta.read(_CHUNK_BYTES)
            if not data:
                raise DeltaError("it is cut short")
        try:
            return self._xz.decompress(data, max_length=_CHUNK_BYTES)
        except (lzma.LZMAError, MemoryError) as error:
            raise DeltaError(f"its compressed part cannot be read: {error}") from error
