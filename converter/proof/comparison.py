"""Compares a variant's answers with the source's by the recipe's metric: the one owner of what was lost.

Everything is paired: both answered the same samples. What the number of samples allows to say is part of
the comparison, so that nobody promises more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.intervals import wilson_interval
from converter.proof.bootstrap import bounds
from converter.proof.metrics import Labels, Metric
from converter.proof.paired_proportions import drop_interval, samples_to_certify
from converter.proof.scores import MOST_PAIRED, Array, Statistic, classes_of, hits, statistic

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
    """Samples on which it gives the source's class, right or wrong; None where there are no classes."""
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


def compare(
    metric: Metric,
    *,
    source: Array,
    outputs: Array,
    labels: Array | None,
    confidence: float,
    max_drop: float,
    looks: int = 1,
) -> Comparison:
    """Judge a variant's outputs.

    Args:
        metric: The recipe's.
        source: The source's answers; the first axis counts samples.
        outputs: The variant's to the same samples.
        labels: See `Metric.labels`.
        confidence: Of the intervals, such as 0.95.
        max_drop: The budget, to say how many samples would certify it.
        looks: How many variants these samples may choose from: the bounds of the drop share the chance of
            an error between them (Bonferroni).
    """
    rows = _judged(metric, len(source))
    source, outputs = source[rows], outputs[rows]
    labels = None if labels is None else labels[rows]
    of_source = statistic(metric, source, source, labels)
    of_variant = statistic(metric, outputs, source, labels)
    own = 1 - (1 - confidence) / looks
    drop = _drop(metric, source, outputs, labels, of_source, of_variant, own)
    classes = metric.labels is Labels.CLASSES
    return Comparison(
        metric=metric,
        confidence=confidence,
        n=len(rows),
        source=_value(of_source, len(rows)),
        quality=_quality(metric, of_variant, outputs, labels, confidence),
        drop=drop,
        drop_confidence=own,
        agreed=int((classes_of(source) == classes_of(outputs)).sum()) if classes else None,
        needed=_needed(metric, source, outputs, labels, own, drop, max_drop),
    )


def quality(metric: Metric, *, source: Array, labels: Array | None, confidence: float) -> Estimate:
    """What the source itself is worth."""
    rows = _judged(metric, len(source))
    labels = None if labels is None else labels[rows]
    return _quality(
        metric, statistic(metric, source[rows], source[rows], labels), source[rows], labels, confidence
    )


def _judged(metric: Metric, n: int) -> NDArray[np.intp]:
    """The samples a metric takes: all, or as many, evenly spread, as it can afford pairs of."""
    if metric is not Metric.RANK_CORRELATION or n <= MOST_PAIRED:
        return np.arange(n)
    return np.linspace(0, n - 1, MOST_PAIRED).round().astype(np.intp)


def _value(of: Statistic, n: int) -> float:
    return float(of(np.ones((1, n)))[0])


def _quality(
    metric: Metric, of: Statistic, outputs: Array, labels: Array | None, confidence: float
) -> Estimate:
    n = len(outputs)
    value = _value(of, n)
    if metric.counts and labels is not None:
        low, high = wilson_interval(int(hits(metric, outputs, labels).sum()), n, confidence)
    else:
        low, high = bounds(of, n, 0.5 + confidence / 2)
    return Estimate(value=value, low=low, high=high)


def _drop(
    metric: Metric,
    source: Array,
    outputs: Array,
    labels: Array | None,
    of_source: Statistic,
    of_variant: Statistic,
    confidence: float,
) -> Estimate:
    n = len(source)

    def lost(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        gap = of_source(weights) - of_variant(weights)
        return gap if metric.higher_is_better else -gap

    point = _value(lost, n)
    if metric.labels is not Labels.CLASSES or labels is None:
        low, high = bounds(lost, n, confidence)
        return Estimate(value=point, low=low, high=high)
    counted = drop_interval(*_discordant(metric, source, outputs, labels), n, confidence)
    if metric.counts:
        return Estimate(value=point, low=counted[0], high=counted[1])
    low, high = bounds(lost, n, confidence)
    # A resample never shows a disagreement that the sample lacks: where there are few, the bootstrap
    # believes that there are none at all.
    return Estimate(value=point, low=min(low, counted[0]), high=max(high, counted[1]))


def _discordant(metric: Metric, source: Array, outputs: Array, labels: Array) -> tuple[int, int]:
    """Samples that only the source, and that only the variant has right."""
    by = metric if metric.counts else Metric.ACCURACY
    before, after = hits(by, source, labels), hits(by, outputs, labels)
    return int((before & ~after).sum()), int((after & ~before).sum())


def _needed(
    metric: Metric,
    source: Array,
    outputs: Array,
    labels: Array | None,
    confidence: float,
    drop: Estimate,
    max_drop: float,
) -> int | None:
    n = len(source)
    if drop.high <= max_drop:
        return n
    if metric.counts and labels is not None:
        lost, gained = _discordant(metric, source, outputs, labels)
        return samples_to_certify(lost, gained, n, confidence, drop=max_drop)
    if drop.value >= max_drop:
        return None
    return round(n * ((drop.high - drop.value) / (max_drop - drop.value)) ** 2)  # widths go by 1 / √n
