"""Decides what a search does next. Pure: the same history, the same decision, and no clock.

All candidates are tried with every layer alike. Then the smallest of those that lose too much is mended:
its layers, those that lose most per byte first, are raised to more bits, 1, 2, 4, … at a time until the
budget holds, and the least number that suffices is found by halving. The next smallest follows, as long as
it costs less than the best that keeps to the budget. Every step tries something new, and what is there to
try is finite.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from converter.goals import Prefer
from converter.search.trials import Judged, LayerLoss, Space, Trial, cost
from converter.variants import Precision

__all__ = ["Done", "Examine", "Make", "Move", "best_first", "least_bad", "next_move", "weight_bits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Make:
    """Make and judge a trial."""

    trial: Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Examine:
    """Find out what each layer loses in a precision; the answer goes into `Space.losses`."""

    precision: Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Nothing is left to try, or nothing more may be."""

    why: str


Move = Make | Examine | Done


def next_move(space: Space, history: Sequence[Judged]) -> Move:
    """What to do, knowing what became of every trial so far."""
    if len(history) >= space.max_trials:
        return Done(why=f"{space.max_trials} trials were allowed")
    tried = {judged.trial for judged in history}
    for precision in space.candidates:
        if Trial(precision=precision) not in tried:
            return Make(trial=Trial(precision=precision))
    for base in _worth_mending(space, history):
        move = _mend(space, history, base)
        if move is not None:
            return move
    return Done(why="nothing that costs less than the best was left to try")


def best_first(space: Space, history: Iterable[Judged]) -> tuple[Judged, ...]:
    """What keeps to the budget, the best first; among equals what loses less."""
    return tuple(
        sorted(
            (judged for judged in history if judged.keeps(space.budget)),
            key=lambda judged: (*cost(judged, space.prefer), _lost(judged), judged.trial.name),
        )
    )


def least_bad(history: Iterable[Judged]) -> Judged | None:
    """What loses least of what could be made at all."""
    made = [judged for judged in history if judged.drop is not None]
    return min(
        made, key=lambda judged: (bool(judged.failure), _lost(judged), judged.size_bytes), default=None
    )


def weight_bits(precision: Precision) -> int:
    """Of a weight in this precision."""
    return _BITS[precision]


def _worth_mending(space: Space, history: Sequence[Judged]) -> list[Judged]:
    """Candidates that lose too much and cost less than the best that does not, smallest first."""
    best = next(iter(best_first(space, history)), None)
    bad = [
        judged
        for judged in history
        if not judged.trial.raised
        and judged.trial.precision in space.mixable
        and judged.drop is not None
        and not judged.keeps(space.budget)
        and (best is None or cost(judged, space.prefer) < cost(best, space.prefer))
    ]
    return sorted(bad, key=lambda judged: (judged.size_bytes, judged.trial.name))


def _mend(space: Space, history: Sequence[Judged], base: Judged) -> Move | None:
    precision = base.trial.precision
    if precision not in space.losses:
        return Examine(precision=precision)
    layers = sorted(space.losses[precision], key=lambda item: (-item.per_byte, item.layer))
    of_base = [item for item in history if item.trial.precision is precision and item.trial.raised]
    if any(item.drop is None for item in of_base):
        return None  # layers of these two precisions do not go together
    to = _raised_to(space, history, precision)
    most = _most(space, history, base, layers, to)
    good = [len(item.trial.raised) for item in of_base if item.keeps(space.budget)]
    least_good = min(good, default=most + 1)
    bad = [
        len(item.trial.raised)
        for item in of_base
        if not item.keeps(space.budget) and len(item.trial.raised) < least_good
    ]
    most_bad = max(bad, default=0)
    if least_good - most_bad <= 1:
        return None
    count = (most_bad + least_good) // 2 if good else min(max(1, 2 * most_bad), most)
    names = tuple(item.layer for item in layers[:count])
    return Make(trial=Trial(precision=precision, raised=names, to=to))


def _raised_to(space: Space, history: Sequence[Judged], precision: Precision) -> Precision:
    """The next step up that is good enough for all layers; else floats, as it is for some no better."""
    to = space.raises[precision]
    bad = {item.trial for item in history if not item.keeps(space.budget)}
    while to in space.raises and Trial(precision=to) in bad:
        to = space.raises[to]
    return to


def _most(
    space: Space, history: Sequence[Judged], base: Judged, layers: Sequence[LayerLoss], to: Precision
) -> int:
    """How many layers may be raised before the variant costs as much as the best other; never all.

    With all of them raised it would be another candidate.
    """
    layers = layers[:-1]
    others = [item for item in history if item.trial.precision is not base.trial.precision]
    best = next(iter(best_first(space, others)), None)
    if best is None or space.prefer is Prefer.LATENCY:
        return len(layers)
    growth = max(0, _BITS[to] - _BITS[base.trial.precision]) / _FLOAT_BITS
    size, count = float(base.size_bytes), 0
    for layer in layers:
        size += growth * layer.weight_bytes
        if size >= best.size_bytes:
            break
        count += 1
    return count


_FLOAT_BITS = 32
_BITS = {
    Precision.FP32: 32,
    Precision.FP16: 16,
    Precision.MIXED: 16,
    Precision.INT8: 8,
    Precision.INT8_DYNAMIC: 8,
    Precision.INT8_WEIGHTS: 8,
    Precision.INT16X8: 8,
    Precision.INT4_WEIGHTS: 4,
    Precision.PALETTE8: 8,
    Precision.PALETTE6: 6,
    Precision.PALETTE4: 4,
    Precision.PALETTE3: 3,
    Precision.PALETTE2: 2,
}
"""Of a weight."""


def _lost(judged: Judged) -> float:
    return float("inf") if judged.drop is None else judged.drop.value
