"""Makes one delta: tensors are paired by name and compared by element, everything else by byte."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from converter.deltas.matching import ByteMatcher
from converter.deltas.steps import Kind, Octets, Step, folded_differences, joined, planes_of, written
from converter.deltas.weights import Tensor, tensors_in
from ota_contract.delta import MAX_INSTRUCTIONS, WIDTHS

__all__ = ["make_delta"]

_ALIGNMENT = max(WIDTHS)
_WORTH_A_GUESS_BYTES = 4096
_PATIENT_BYTES = 16 * 1024 * 1024
"""Up to here the bytes alone are tried as well: where next to nothing changed they may be shorter."""


def make_delta(base: bytes, target: bytes, *, knows_models: bool = True) -> bytes:
    """A `ferry.delta/1` that makes `target` from `base`; the same bytes for the same bytes.

    Args:
        base: The earlier file.
        target: The new one.
        knows_models: Look for tensors; without, both are bytes, which is what a rival would see.
    """
    known = _pairs(base, target) if knows_models else ()
    ways = ((), known) if known and len(target) <= _PATIENT_BYTES else (known,)
    return min((_made(base, target, pairs) for pairs in ways), key=len)


def _made(base: bytes, target: bytes, pairs: tuple[_Pair, ...]) -> bytes:
    old, new = (np.frombuffer(data, np.uint8) for data in (base, target))
    steps = joined(_steps(old, new, pairs))
    if len(steps) >= MAX_INSTRUCTIONS:
        steps = [Step(kind=Kind.INSERT, target=0, length=len(new))]
    return written(steps, old, new)


_Pair = tuple[Tensor, Tensor | None]
"""A tensor of the target, and the one of the base it came from."""


def _pairs(base: bytes, target: bytes) -> tuple[_Pair, ...]:
    """The target's tensors in order, each with its former self: by name, else by size and place."""
    old, new = tensors_in(base), tensors_in(target)
    if not new:
        return _guess(base, target)
    by_name, by_size = defaultdict(list), defaultdict(list)
    for tensor in reversed(old):
        by_name[tensor.name, tensor.length, tensor.width].append(tensor)
    found: dict[Tensor, Tensor] = {}
    for tensor in new:
        same = by_name[tensor.name, tensor.length, tensor.width]
        if same:
            found[tensor] = same.pop()
    taken = set(found.values())
    for tensor in reversed(old):
        if tensor not in taken:
            by_size[tensor.length, tensor.width].append(tensor)
    for tensor in new:
        if tensor not in found and by_size[tensor.length, tensor.width]:
            found[tensor] = by_size[tensor.length, tensor.width].pop()
    return tuple((tensor, found.get(tensor)) for tensor in new)


def _guess(base: bytes, target: bytes) -> tuple[_Pair, ...]:
    """Two files of one length that nothing is known of may be raw weights: take the likeliest width."""
    length = len(target) // _ALIGNMENT * _ALIGNMENT
    if len(base) != len(target) or length < _WORTH_A_GUESS_BYTES:
        return ()
    old, new = (np.frombuffer(data, np.uint8)[:length] for data in (base, target))
    bits = {width: _bits(folded_differences(old, new, width), width) for width in WIDTHS}
    width = min(WIDTHS, key=lambda width: bits[width])
    if width == 1:
        return ()  # the byte matcher sees as much, and insertions besides
    tensor = Tensor(name="", offset=0, length=length, width=width)
    return ((tensor, tensor),)


def _steps(old: Octets, new: Octets, pairs: tuple[_Pair, ...]) -> Iterator[Step]:
    matcher = ByteMatcher(old, new)
    done = guess = 0
    for tensor, former in pairs:
        for step in matcher.steps(done, tensor.offset, guess):
            yield step
            guess = step.base + step.length if step.kind is not Kind.INSERT else guess
        for step in _tensor_steps(matcher, old, new, tensor, former, guess):
            yield step
            guess = step.base + step.length if step.kind is not Kind.INSERT else guess
        done = tensor.end
    yield from matcher.steps(done, len(new), guess)


def _tensor_steps(
    matcher: ByteMatcher, old: Octets, new: Octets, tensor: Tensor, former: Tensor | None, guess: int
) -> Iterator[Step]:
    after = new[tensor.offset : tensor.end]
    by_itself = _bits(after, tensor.width)
    if former is not None:
        before = old[former.offset : former.end]
        kind = Kind.COPY if np.array_equal(before, after) else Kind.DIFF
        difference = (
            0.0 if kind is Kind.COPY else _bits(folded_differences(before, after, tensor.width), tensor.width)
        )
        if difference <= by_itself:
            yield Step(
                kind=kind,
                target=tensor.offset,
                length=tensor.length,
                base=former.offset,
                width=tensor.width if kind is Kind.DIFF else 1,
            )
            return
    elif tensor.width == 1:
        # It may hold a former tensor in another shape, with rows added, say.
        yield from matcher.steps(tensor.offset, tensor.end, guess)
        return
    yield Step(kind=Kind.INSERT, target=tensor.offset, length=tensor.length, width=tensor.width)


def _bits(elements: Octets, width: int) -> float:
    """About what the elements cost when each plane is coded by itself."""
    total = 0.0
    for plane in planes_of(elements, width):
        share = np.bincount(plane, minlength=256) / len(plane)
        share = share[share > 0]
        total -= float((share * np.log2(share)).sum()) * len(plane)
    return total
