"""Compares a variant's answers with the source's by the recipe's metric: the one owner of what was lost.

Everything is paired: both answered the same samples. What the number of samples allows to say is part of
the comparison, so that nobody promises more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.goals import Goal
from converter.intervals import wilson_interval
from converter.proof.bootstrap import bounds
from converter.proof.metrics import Labels, Metric
from converter.proof.paired_proportions import drop_interval, samples_to_certify
from converter.proof.scores import MOST_PAIRED, Array, Statistic, alike, hits, statistic

__all__ = ["Comparison", "Estimate", "compare", "quality"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with bounds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a variant is worth, and what it loses."""

    metric: Metric
    confidence: float
    n: int
    """Samples judged."""
    source: float
    """The source's metric on them."""
    quality: Estimate
    """The variant's; the interval, of both bounds together, is of `confidence`."""
    drop: Estimate
    """What it loses against the source; each bound by itself is of `drop_confidence`."""
    drop_confidence: float
    """`confidence`, or more where the best of several was chosen by these samples."""
    agreed: int | None
    """Samples it answers as the source does, right or wrong; None where the metric has no such thing."""
    needed: int | None = None
    """About how many samples like these would certify the budget; None where none would."""

    def certifies(self, max_drop: float) -> bool:
        """Whether the samples suffice to say that at most this is lost."""
        return self.drop.high <= max_drop

    def proof(self, max_drop: float) -> str:
        """What these samples allow to say of a budget, in a sentence without a full stop."""
        level = f"at {self.drop_confidence * 100:.4g} % confidence"
        most = self.metric.shown(max_drop)
        loss = self.metric.shown(max(0.0, self.drop.high))
        if self.certifies(max_drop):
            return f"{self.n} samples certify {level} a drop of at most {loss}, within the {most} allowed"
        need = f"; about {self.needed} such samples would" if self.needed else ""
        return f"{self.n} samples cannot certify {level} a drop of at most {most}: they certify {loss}{need}"


def compare(goal: Goal, *, source: Array, outputs: Array, labels: Array | None, looks: int = 1) -> Comparison:
    """Judge a variant's outputs.

    Args:
        goal: The recipe's.
        source: The source's answers; the first axis counts samples.
        outputs: The variant's to the same samples.
        labels: See `Metric.labels`.
        looks: How many variants these samples may choose from: the bounds of the drop share the chance of
            an error between them (Bonferroni).
    """
    rows = _judged(goal.metric, len(source))
    paired = _Paired(
        goal=goal,
        source=source[rows],
        outputs=outputs[rows],
        labels=None if labels is None else labels[rows],
        confidence=1 - (1 - goal.confidence) / looks,
    )
    drop = paired.drop()
    same = alike(goal, paired.source, paired.outputs)
    return Comparison(
        metric=goal.metric,
        confidence=goal.confidence,
        n=len(rows),
        source=_value(statistic(goal, paired.source, paired.source, paired.labels), len(rows)),
        quality=_quality(goal, paired.outputs, paired.source, paired.labels),
        drop=drop,
        drop_confidence=paired.confidence,
        agreed=None if same is None else int(same.sum()),
        needed=paired.needed(drop),
    )


def quality(goal: Goal, *, source: Array, labels: Array | None) -> Estimate:
    """What the source itself is worth."""
    rows = _judged(goal.metric, len(source))
    kept = source[rows]
    return _quality(goal, kept, kept, None if labels is None else labels[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paired:
    """Answers to the same samples."""

    goal: Goal
    source: Array
    outputs: Array
    labels: Array | None
    confidence: float

    def drop(self) -> Estimate:
        """What is lost, each bound by itself of `confidence`."""
        n, metric = len(self.source), self.goal.metric
        of_source = statistic(self.goal, self.source, self.source, self.labels)
        of_variant = statistic(self.goal, self.outputs, self.source, self.labels)

        def lost(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            gap = of_source(weights) - of_variant(weights)
            return gap if metric.higher_is_better else -gap

        point = _value(lost, n)
        if not metric.counts and metric.labels is not Labels.CLASSES:
            low, high = bounds(lost, n, self.confidence)
            return Estimate(value=point, low=low, high=high)
        counted = drop_interval(*self._discordant(), n, self.confidence)
        if metric.counts:
            return Estimate(value=point, low=counted[0], high=counted[1])
        low, high = bounds(lost, n, self.confidence)
        # A resample never shows a disagreement that the sample lacks: where there are few, the bootstrap
        # believes that there are none at all.
        return Estimate(value=point, low=min(low, counted[0]), high=max(high, counted[1]))

    def needed(self, drop: Estimate) -> int | None:
        """About how many samples would certify the budget."""
        n, allowed = len(self.source), self.goal.max_drop
        if drop.high <= allowed:
            return n
        if self.goal.metric.counts:
            return samples_to_certify(*self._discordant(), n, self.confidence, drop=allowed)
        if drop.value >= allowed:
            return None
        return round(n * ((drop.high - drop.value) / (allowed - drop.value)) ** 2)  # widths go by 1 / √n

    def _discordant(self) -> tuple[int, int]:
        """Samples that only the source, and that only the variant has right."""
        if self.labels is None:
            return 0, 0
        before, after = (hits(self.goal, item, self.labels) for item in (self.source, self.outputs))
        return int((before & ~after).sum()), int((after & ~before).sum())


def _judged(metric: Metric, n: int) -> NDArray[np.intp]:
    """The samples a metric takes: all, or as many, evenly spread, as it can afford pairs of."""
    if metric is not Metric.RANK_CORRELATION or n <= MOST_PAIRED:
        return np.arange(n)
    return np.linspace(0, n - 1, MOST_PAIRED).round().astype(np.intp)


def _value(of: Statistic, n: int) -> float:
    return float(of(np.ones((1, n)))[0])


def _quality(goal: Goal, outputs: Array, source: Array, labels: Array | None) -> Estimate:
    n, of = len(outputs), statistic(goal, outputs, source, labels)
    if goal.metric.counts and labels is not None:
        low, high = wilson_interval(int(hits(goal, outputs, labels).sum()), n, goal.confidence)
    else:
        low, high = bounds(of, n, 0.5 + goal.confidence / 2)
    return Estimate(value=_value(of, n), low=low, high=high)
