"""Searching as a stage of a conversion: before the named variants are made, and into what it leads after."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from converter.caching.store import ResultStore
from converter.datasets import Datasets
from converter.errors import RouteError
from converter.measurements import MeasurementCache
from converter.phases import Order, Phases
from converter.plans import plan, planned_route
from converter.progress import Progress
from converter.routes import check_installed
from converter.search.bench import Workshop, candidates, maker, split_rows
from converter.search.front import slower_than_float
from converter.search.searching import Found, search_for
from converter.search.sensitivity import Sensitivity, examine
from converter.search.strategy import weight_bits
from converter.variants import Precision, Target
from converter.verification import Findings
from ota_contract.manifest import Release

__all__ = ["check_searches", "examined", "judged_sets", "proven", "search_all", "slow_variants", "with_found"]

_FLOATS = (Precision.FP32, Precision.FP16, Precision.MIXED)


def check_searches(order: Order) -> None:
    """Refuse a search that could try nothing, before anything is run.

    Raises:
        RouteError: There is nothing to try, or what is named cannot be made or is not installed.
    """
    for search in order.recipe.searches:
        split_rows(len(order.sets.evaluation))
        for precision in candidates(search, order.source):
            route = planned_route(Target(runtime=search.runtime, precision=precision), start=order.source)
            check_installed(item.step for item in route)


def search_all(
    order: Order, work: Path, progress: Progress, store: ResultStore | None, measurements: MeasurementCache
) -> tuple[Found, ...]:
    """Run every search of the recipe, one after the other.

    Raises:
        PassError: The source is at fault.
    """
    shop = Workshop(
        order=order,
        work=work,
        progress=progress,
        store=store or ResultStore(work / "results"),  # trials share what they have in common, always
        measurements=measurements,
    )
    return tuple(search_for(search, shop, time.monotonic) for search in order.recipe.searches)


def with_found(order: Order, found: Iterable[Found]) -> Order:
    """The order with what was found among its variants.

    Raises:
        RouteError: Nothing was found, and nothing else asked for.
    """
    found = tuple(found)
    targets = (*order.recipe.targets, *(item.target for item in found if item.target is not None))
    if not targets:
        whys = "; ".join(trial["why"] for item in found for trial in item.record["trials"][:1])
        raise RouteError(f"{found[0].search.id}: nothing could be made or judged: {whys}")
    planned = plan(targets, start=order.source)
    return replace(order, recipe=replace(order.recipe, targets=targets), plan=planned)


def proven(findings: Mapping[str, Findings], found: Iterable[Found]) -> dict[str, Findings]:
    """The findings with what was found judged by the samples its search did not look at."""
    better = {
        item.search.id: replace(findings[item.search.id], comparison=item.comparison)
        for item in found
        if item.target is not None
    }
    return {**findings, **better}


def judged_sets(order: Order, found: Iterable[Found]) -> dict[str, Datasets]:
    """By id of what was found, the data it was judged on."""
    return {
        item.search.id: order.sets.judged_by(item.split.proof if item.proven else item.split.search)
        for item in found
    }


def examined(phases: Phases, draft: Release, order: Order, found: Sequence[Found]) -> tuple[Sensitivity, ...]:
    """What the layers of every runtime lose of which there is a variant in few bits."""
    known = [item for one in found for item in one.sensitivities]
    if order.recipe.search.sensitivity_s > 0:
        for target in _few_bits(order.recipe.targets):
            made = next(item for item in order.plan if item.id == target.id)
            mixes = maker(target.runtime, target.precision, order.source) is not None
            if mixes and all(item.runtime is not target.runtime for item in known):
                known.append(examine(phases, draft, made))
    return tuple(known)


def slow_variants(release: Release) -> tuple[str, ...]:
    """A line for each variant that is slower than its runtime's float model."""
    floats = {
        item.runtime: item.metrics.latency.p50_us
        for item in release.variants
        if item.metrics.latency is not None and item.precision == Precision.FP32.value
    }
    lines = []
    for item in release.variants:
        latency = item.metrics.latency
        slow = slower_than_float(None if latency is None else latency.p50_us, floats.get(item.runtime))
        if slow:
            lines.append(f"{item.id} is {slow}")
    return tuple(lines)


def _few_bits(targets: Iterable[Target]) -> list[Target]:
    """Variants in integers or palettes, those in the fewest bits first."""
    few = [item for item in targets if item.precision not in _FLOATS]
    return sorted(few, key=lambda item: (weight_bits(item.precision), item.id))
