"""Makes and judges the trials of a search, each by the phases of a conversion of its own.

What trials share, the source's answers and models on the way, comes from the results that are remembered.
"""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from converter.assembly import Made
from converter.caching.store import ResultStore
from converter.errors import PassError, Reason, RouteError
from converter.evidence import Rows
from converter.goals import Prefer
from converter.measurements import MeasurementCache
from converter.phases import Order, Phases
from converter.plans import Planned, plan, planned_route
from converter.progress import Progress, Renaming
from converter.proof.comparison import Comparison
from converter.routes import Node, version_of
from converter.search.sensitivity import Sensitivity, examine
from converter.search.trials import Judged, Trial
from converter.variants import LayerRule, Options, Precision, Search, Target
from converter.verification import verdict
from ota_contract.manifest import Release, Runtime

__all__ = ["Bench", "Split", "Workshop", "candidates", "maker", "split_rows"]

_SEED = 20_260
_LEAST_SAMPLES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The evaluation samples a search looks at, and those that prove what it found."""

    search: Rows
    proof: Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What all trials of a conversion use."""

    order: Order
    work: Path
    progress: Progress
    store: ResultStore
    measurements: MeasurementCache


def split_rows(n: int) -> Split:
    """Halves of the evaluation samples, drawn once for all from a fixed seed; the odd one proves.

    Raises:
        RouteError: There is nothing to halve.
    """
    if n < _LEAST_SAMPLES:
        raise RouteError("a search needs two evaluation samples at the least: one to look at, one to prove")
    drawn = np.random.default_rng(_SEED).permutation(n)
    return Split(search=np.sort(drawn[: n // 2]), proof=np.sort(drawn[n // 2 :]))


def candidates(search: Search, start: Node) -> tuple[Precision, ...]:
    """The precisions a search begins with: those named, or all there is a way to with what is installed.

    Raises:
        RouteError: One that is named cannot be made.
    """
    if search.candidates:
        for precision in search.candidates:
            planned_route(Target(runtime=search.runtime, precision=precision), start=start)
        return tuple(dict.fromkeys(search.candidates))
    found = []
    for precision in Precision:
        with contextlib.suppress(RouteError):
            route = planned_route(Target(runtime=search.runtime, precision=precision), start=start)
            if all(version_of(name) for item in route for name in item.step.needs):
                found.append(precision)
    if not found:
        raise RouteError(f"{search.id}: no route gives a variant for {search.runtime.value}")
    return tuple(found)


def maker(runtime: Runtime, precision: Precision, start: Node) -> Planned | None:
    """The pass that gives a precision layer by layer; None where none does."""
    try:
        last = planned_route(Target(runtime=runtime, precision=precision), start=start)[-1]
    except RouteError:
        return None
    mixes = "layers" in last.step.takes and last.step.source.format is last.step.target.format
    return last if mixes else None


class Bench:
    """The trials of one search."""

    def __init__(self, search: Search, workshop: Workshop, split: Split) -> None:
        """Nothing is run yet."""
        self._search = search
        self._shop = workshop
        self._split = split
        self._answers: dict[Trial, tuple[Phases, Path]] = {}
        self._drafts: dict[Precision, tuple[Phases, Release]] = {}
        self._count = 0
        self.float_us: int | None = None
        """What the float model of the runtime takes here, once a trial was measured."""

    @property
    def source_value(self) -> float:
        """The source's metric on all samples."""
        phases, _ = next(iter(self._answers.values()))
        return phases.evidence.source.value

    def target(self, trial: Trial) -> Target:
        """The trial as a variant of a recipe."""
        to = trial.to or trial.precision
        rules = tuple(LayerRule(layer=re.escape(name), precision=to) for name in trial.raised)
        return Target(
            runtime=self._search.runtime,
            precision=trial.precision,
            options=Options(rules=rules),
            name=self._search.id,
        )

    def judge(self, trial: Trial) -> Judged:
        """Make a variant, run it, and judge it by the search's half of the samples.

        Raises:
            PassError: The source itself is at fault.
        """
        target = self.target(trial)
        phases = self._phases(trial)
        try:
            made = phases.make()
            draft = phases.draft(made)
            self._drafts.setdefault(trial.precision, (phases, draft))
            findings = phases.evaluate(draft)
            release = phases.judge(draft, findings)
        except PassError as error:
            if error.reason in (Reason.SOURCE, Reason.CANCELLED):
                raise
            if error.log is not None:
                error.log.unlink(missing_ok=True)
            return Judged(trial=trial, failure=f"{error.pass_name}: {error.message}")
        found = findings[target.id]
        size = release.variant(target.id).metrics.size_bytes
        if found.not_run or found.comparison is None:
            return Judged(trial=trial, size_bytes=size, failure=found.not_run or found.failure)
        self._answers[trial] = phases, phases.answers(target.id)
        return Judged(
            trial=trial,
            size_bytes=size,
            drop=phases.evidence.compare(phases.answers(target.id), rows=self._split.search).drop,
            p50_us=self._latency(phases, release, made, trial),
            failure=verdict(found, trial.precision, max_drop=math.inf),
        )

    def examine(self, precision: Precision) -> Sensitivity:
        """What each layer loses in a precision that was tried."""
        phases, draft = self._drafts[precision]
        return examine(
            phases, draft, plan([self.target(Trial(precision=precision))], start=self._shop.order.source)[-1]
        )

    def compared(self, trial: Trial, *, looks: int | None) -> Comparison:
        """A trial by the half that proves, as one of so many looks at it; None: by the other half."""
        phases, answers = self._answers[trial]
        if looks is None:
            return phases.evidence.compare(answers, rows=self._split.search)
        return phases.evidence.compare(answers, rows=self._split.proof, looks=looks)

    def _latency(self, phases: Phases, release: Release, made: tuple[Made, ...], trial: Trial) -> int | None:
        """Of the trial; trials with raised layers are timed only where latency decides."""
        if trial.raised and self._shop.order.recipe.goal.prefer is Prefer.SIZE:
            return None
        release = phases.measure(release, made, self._shop.measurements, remeasure=False)
        timed = {item.id: item.metrics.latency for item in release.variants}
        floats = timed.get(f"{self._search.runtime.value}-{Precision.FP32.value}")
        if floats is not None:
            self.float_us = floats.p50_us
        own = timed[self._search.id]
        return None if own is None else own.p50_us

    def _phases(self, trial: Trial) -> Phases:
        shop, target = self._shop, self.target(trial)
        order = replace(
            shop.order,
            recipe=replace(shop.order.recipe, targets=(target,), searches=()),
            plan=plan([target], start=shop.order.source),
        )
        self._count += 1
        work = shop.work / f"search-{self._search.id}-{self._count}"
        work.mkdir()
        shown = f"{self._search.id} as {trial.name}"
        return Phases(order, work, Renaming(shop.progress, self._search.id, shown), shop.store)
