"""Runs a search to its end, and has what it found proven on samples it did not look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from converter.goals import Goal
from converter.proof.comparison import Comparison
from converter.search.bench import Bench, Split, Workshop, candidates, maker, split_rows
from converter.search.front import slower_than_float, why_not
from converter.search.sensitivity import Sensitivity
from converter.search.strategy import Done, Examine, Make, best_first, least_bad, next_move
from converter.search.trials import Judged, Space
from converter.variants import Precision, Search, Target

__all__ = ["Found", "search_for"]

_LOOKS = 3
"""Variants that are held against the samples kept for proof."""
_RAISES = {
    Precision.INT4_WEIGHTS: Precision.INT8_WEIGHTS,
    Precision.PALETTE2: Precision.PALETTE4,
    Precision.PALETTE3: Precision.PALETTE6,
    Precision.PALETTE4: Precision.PALETTE8,
    Precision.PALETTE6: Precision.PALETTE8,
}
"""What layers are raised to where there is a step before floats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of a search."""

    search: Search
    target: Target | None
    """The variant to ship, under the search's id; None where nothing could be made at all."""
    comparison: Comparison | None
    """Of it, on the samples kept for proof; on those searched where it lost too much on them already."""
    split: Split
    met: bool
    """Whether it keeps to the budget."""
    proven: bool
    """Whether `comparison` is on the samples kept for proof."""
    record: dict[str, Any]
    """For the report."""
    sensitivities: tuple[Sensitivity, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """A variant held against the samples kept for proof."""

    judged: Judged
    comparison: Comparison


def search_for(search: Search, workshop: Workshop, clock: Callable[[], float]) -> Found:
    """Search for one variant.

    Args:
        search: What the recipe asks for.
        workshop: What trials use.
        clock: Seconds that only grow.

    Raises:
        RouteError: There is nothing to try.
        PassError: The source itself is at fault.
    """
    recipe = workshop.order.recipe
    split = split_rows(len(workshop.order.sets.evaluation))
    bench = Bench(search, workshop, split)
    space = _space(search, workshop)
    history, sensitivities, why = _tried(bench, space, recipe.search.max_seconds, clock)
    looks = _looks(bench, space, history)
    chosen = _chosen(looks, history)
    met = bool(looks) and chosen is looks[-1].judged and _holds(looks[-1], recipe.goal)
    comparison = next((look.comparison for look in looks if look.judged is chosen), None)
    proven = comparison is not None
    if chosen is not None and comparison is None:
        comparison = bench.compared(chosen.trial, looks=None)
    record = _record(search, bench, recipe.goal, history, chosen, looks, why)
    return Found(
        search=search,
        target=None if chosen is None else bench.target(chosen.trial),
        comparison=comparison,
        split=split,
        met=met,
        proven=proven,
        record=record,
        sensitivities=sensitivities,
    )


def _space(search: Search, workshop: Workshop) -> Space:
    order = workshop.order
    found = candidates(search, order.source)
    makers = {precision: maker(search.runtime, precision, order.source) for precision in found}
    mixable = {precision: item for precision, item in makers.items() if item is not None}
    raises = {
        precision: _RAISES.get(precision, item.step.source.precision) for precision, item in mixable.items()
    }
    return Space(
        candidates=found,
        mixable=frozenset(mixable),
        raises=raises,
        losses={},
        budget=order.recipe.goal.max_drop,
        prefer=order.recipe.goal.prefer,
        max_trials=order.recipe.search.max_trials,
    )


def _tried(
    bench: Bench, space: Space, max_seconds: float, clock: Callable[[], float]
) -> tuple[list[Judged], tuple[Sensitivity, ...], str]:
    history: list[Judged] = []
    sensitivities: list[Sensitivity] = []
    begun = clock()
    while True:
        move = next_move(space, history)
        if isinstance(move, Done):
            return history, tuple(sensitivities), move.why
        if history and clock() - begun >= max_seconds:
            return history, tuple(sensitivities), f"{max_seconds:g} s were allowed"
        match move:
            case Make(trial=trial):
                history.append(bench.judge(trial))
            case Examine(precision=precision):
                sensitivity = bench.examine(precision)
                sensitivities.append(sensitivity)
                space = replace(space, losses={**space.losses, precision: sensitivity.losses})


def _looks(bench: Bench, space: Space, history: list[Judged]) -> list[_Look]:
    """Hold the best against the samples kept for proof, then the next best; the first that holds ends it.

    The chance of an error is shared: half of it for the first look, a quarter for the second, and so on,
    so that all of them together have no more than one alone.
    """
    looks: list[_Look] = []
    for number, judged in enumerate(best_first(space, history)[:_LOOKS], start=1):
        look = _Look(judged=judged, comparison=bench.compared(judged.trial, looks=2**number))
        looks.append(look)
        if look.comparison.drop.value <= space.budget:
            break
    return looks


def _holds(look: _Look, goal: Goal) -> bool:
    return look.comparison.drop.value <= goal.max_drop


def _chosen(looks: list[_Look], history: list[Judged]) -> Judged | None:
    """What held; else what lost least where it was looked at, or in the search."""
    if looks:
        return min(reversed(looks), key=lambda look: look.comparison.drop.value).judged
    return least_bad(history)


def _record(
    search: Search,
    bench: Bench,
    goal: Goal,
    history: list[Judged],
    chosen: Judged | None,
    looks: list[_Look],
    why: str,
) -> dict[str, Any]:
    proofs = {look.judged.trial: look.comparison for look in looks}
    return {
        "id": search.id,
        "runtime": search.runtime.value,
        "chosen": None if chosen is None else chosen.trial.name,
        "ended": why,
        "trials": [
            _trial(bench, goal, history, judged, chosen, proofs.get(judged.trial)) for judged in history
        ],
    }


def _trial(
    bench: Bench,
    goal: Goal,
    history: list[Judged],
    judged: Judged,
    chosen: Judged | None,
    proof: Comparison | None,
) -> dict[str, Any]:
    outcome, why = _said(goal, history, judged, chosen, proof)
    slow = slower_than_float(judged.p50_us, bench.float_us)
    drop = judged.drop
    return {
        "id": judged.trial.name,
        "precision": judged.trial.precision.value,
        "rules": [
            {"layer": rule.layer, "precision": rule.precision.value}
            for rule in bench.target(judged.trial).options.rules
        ],
        "size_bytes": judged.size_bytes or None,
        "source": None if drop is None else bench.source_value,
        "drop": None if drop is None else drop.value,
        "low": None if drop is None else drop.low,
        "high": None if drop is None else drop.high,
        "p50_us": judged.p50_us,
        "outcome": outcome,
        "why": f"{why}; {slow}" if slow else why,
    }


def _said(
    goal: Goal, history: list[Judged], judged: Judged, chosen: Judged | None, proof: Comparison | None
) -> tuple[str, str]:
    if judged is chosen:
        if proof is None:
            return "chosen", f"the best found, and over budget: {why_not(judged, goal, history)[1]}"
        return "chosen", proof.proof(goal.max_drop)
    if proof is not None:
        lost = goal.metric.shown(proof.drop.value)
        return "over budget", f"on the {proof.n} samples kept for proof it lost {lost}"
    return why_not(judged, goal, history)
