"""Finds what two files have in common where nothing is known of them but their bytes.

Blocks of the base are looked up by hash at every position of the target; from a block that is found the
match goes on, over single bytes that differ, for as long as more bytes agree than not.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from converter.deltas.steps import Kind, Octets, Step

__all__ = ["ByteMatcher"]

_BLOCK = 16
_DENSE_BYTES = 4 * 1024 * 1024
"""In a base up to this size every position is looked up, in a larger one every sixteenth."""
_CHUNK_BYTES = 4 * 1024 * 1024
_FIRST_LOOK, _FARTHEST_LOOK = 256, 1 << 20
_LEAST_GAIN = 8
"""Bytes a match must agree in beyond those it differs in: less is not worth an instruction."""
_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)


class ByteMatcher:
    """Matches stretches of one target against the whole of one base."""

    def __init__(self, base: Octets, target: Octets) -> None:
        """Look at nothing yet."""
        self._base, self._target = base, target
        self._hashes: NDArray[np.uint64] | None = None
        self._places: NDArray[np.int64] | None = None
        self._chunk = -1
        self._hits = (np.zeros(0, np.int64), np.zeros(0, np.int64))

    def steps(self, begin: int, end: int, guess: int) -> Iterator[Step]:
        """Steps that make the target from `begin` to `end`.

        `guess` is where the base may go on: whoever asks knows what came before.
        """
        while begin < end:
            step = self._agreeing(begin, end, guess)
            if step is not None:
                yield from self._exact(step)
                begin, guess = begin + step.length, step.base + step.length
                continue
            anchor = self._anchor(begin, end)
            place, guess = anchor if anchor is not None else (end, guess)
            back = self._backwards(begin, place, guess) if anchor is not None else 0
            place, guess = place - back, guess - back
            if place > begin:
                yield Step(kind=Kind.INSERT, target=begin, length=place - begin)
            begin = place

    def _agreeing(self, begin: int, end: int, base: int) -> Step | None:
        """The stretch from here in which more bytes agree than not."""
        if not 0 <= base < len(self._base):
            return None
        look, most = _FIRST_LOOK, min(end - begin, len(self._base) - base)
        while True:
            length = min(look, most)
            same = self._target[begin : begin + length] == self._base[base : base + length]
            gain = np.cumsum(np.where(same, 1, -1))
            best = int(gain.argmax())
            if length == most or look >= _FARTHEST_LOOK or best < length // 2:
                break
            look *= 4
        if gain[best] < min(_LEAST_GAIN, most):
            return None
        return Step(kind=Kind.DIFF, target=begin, length=best + 1, base=base)

    def _exact(self, step: Step) -> Iterator[Step]:
        """The step, with long runs of equal bytes copied instead of added zero."""
        new = self._target[step.target : step.target + step.length]
        old = self._base[step.base : step.base + step.length]
        edges = np.flatnonzero(np.diff(np.concatenate(([False], new == old, [False])).astype(np.int8)))
        begin = 0
        for first, last in edges.reshape(-1, 2).tolist():
            if last - first < 2 * _BLOCK and (first, last) != (0, step.length):
                continue
            if first > begin:
                yield _part(step, Kind.DIFF, begin, first)
            yield _part(step, Kind.COPY, first, last)
            begin = last
        if begin < step.length:
            yield _part(step, Kind.DIFF, begin, step.length)

    def _anchor(self, begin: int, end: int) -> tuple[int, int] | None:
        """The next place of the target with a block of the base, and where the base has it."""
        for chunk in range(begin // _CHUNK_BYTES, end // _CHUNK_BYTES + 1):
            found, places = self._found(chunk)
            index = int(np.searchsorted(found, begin))
            if index < len(found):
                at = int(found[index])
                return (at, int(places[index])) if at + _BLOCK <= end else None
        return None

    def _found(self, chunk: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of the target in a chunk that begin a block of the base, and where the base has it."""
        if self._chunk != chunk:
            hashes, places = self._index()
            first = chunk * _CHUNK_BYTES
            wanted = _hashes_of(self._target[first : first + _CHUNK_BYTES + _BLOCK - 1])
            found = np.searchsorted(hashes, wanted)
            found[found == len(hashes)] = 0
            hits = np.flatnonzero(hashes[found] == wanted) if len(hashes) else np.zeros(0, np.int64)
            self._chunk, self._hits = chunk, (first + hits, places[found[hits]])
        return self._hits

    def _backwards(self, begin: int, target: int, base: int) -> int:
        """How many bytes before a match agree, too."""
        length = min(target - begin, base, _BLOCK - 1)
        count = 0
        while count < length and self._target[target - count - 1] == self._base[base - count - 1]:
            count += 1
        return count

    def _index(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        if self._hashes is None or self._places is None:
            step = 1 if len(self._base) <= _DENSE_BYTES else _BLOCK
            chunks = [
                _hashes_of(self._base[first : first + _CHUNK_BYTES + _BLOCK - 1])[::step]
                for first in range(0, max(0, len(self._base) - _BLOCK + 1), _CHUNK_BYTES)
            ]
            every = np.concatenate(chunks) if chunks else np.zeros(0, np.uint64)
            self._hashes, first = np.unique(every, return_index=True)
            self._places = first.astype(np.int64) * step
        return self._hashes, self._places


def _part(step: Step, kind: Kind, begin: int, end: int) -> Step:
    return Step(kind=kind, target=step.target + begin, length=end - begin, base=step.base + begin)


def _hashes_of(data: Octets) -> NDArray[np.uint64]:
    """A hash of the sixteen bytes from every position."""
    count = len(data) - _BLOCK + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    words = np.zeros(len(data) - 7, np.uint64)
    for phase in range(8):
        rest = data[phase : phase + (len(data) - phase) // 8 * 8]
        words[phase::8] = np.frombuffer(rest.tobytes(), "<u8")
    with np.errstate(over="ignore"):
        mixed = words[:count] * np.uint64(_MULTIPLIERS[0]) + words[8 : 8 + count] * np.uint64(_MULTIPLIERS[1])
        hashes: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(29))
    return hashes
