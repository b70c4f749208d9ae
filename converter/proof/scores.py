"""Computes metrics from outputs, for any weighting of the samples.

A metric is a function of how much each sample counts: all ones give the metric itself, counts drawn with
replacement a bootstrap's, a zero a jackknife's. Resampling so needs no copy of the outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.goals import Goal
from converter.proof.metrics import Labels, Metric

__all__ = ["MOST_PAIRED", "Array", "Statistic", "alike", "classes_of", "hits", "statistic"]

Array = NDArray[Any]
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Weights of the samples, (resamples, samples), to the metric by each, (resamples,)."""

MOST_PAIRED = 1000
"""Samples a rank correlation takes: it looks at all their pairs."""
_TOP = 5


def statistic(goal: Goal, outputs: Array, source: Array, labels: Array | None) -> Statistic:
    """A goal's metric of some outputs.

    Args:
        goal: Says which metric.
        outputs: What is judged; the first axis counts samples.
        source: What the source answered to the same samples.
        labels: What the metric needs of them: see `Metric.labels`.

    Raises:
        ValueError: The labels it needs are missing.
    """
    metric = goal.metric
    if metric.labels is Labels.NONE and outputs is source:
        return lambda weights: np.ones(len(weights))
    if metric is Metric.RANK_CORRELATION:
        return _rank_correlation(outputs, source)
    if metric is Metric.MEAN_COSINE:
        return _mean(_cosines(outputs, source))
    if labels is None:
        raise ValueError(f"{metric.value} needs labels")
    if metric.counts:
        return _mean(hits(goal, outputs, labels))
    if metric is Metric.F1_MACRO:
        return _f1_macro(classes_of(outputs), labels)
    return _explained(metric, _rows(outputs), _rows(labels))


def classes_of(outputs: Array) -> NDArray[np.intp]:
    """The class each answer gives, (samples,)."""
    return np.asarray(_rows(outputs).argmax(axis=-1))


def hits(goal: Goal, outputs: Array, labels: Array) -> NDArray[np.bool_]:
    """Which samples are right, (samples,); of a metric that does not count them, by their class."""
    if goal.metric is Metric.WITHIN:
        return np.asarray(np.abs(_first(outputs) - _first(labels)) <= goal.tolerance)
    if goal.metric is not Metric.TOP5_ACCURACY:
        return np.asarray(classes_of(outputs) == labels)
    scores = _rows(outputs)
    own = np.take_along_axis(scores, labels[:, None].astype(np.intp), axis=1)
    # Ties count against the sample: a model that answers the same for all is never right by luck.
    return np.asarray((scores >= own).sum(axis=1) <= _TOP)


def alike(goal: Goal, outputs: Array, others: Array) -> NDArray[np.bool_] | None:
    """Which samples two models answer in the same way; None where the metric has no such thing."""
    if goal.metric is Metric.WITHIN:
        return np.asarray(np.abs(_first(outputs) - _first(others)) <= goal.tolerance)
    if goal.metric.labels is not Labels.CLASSES:
        return None
    return np.asarray(classes_of(outputs) == classes_of(others))


def _first(outputs: Array) -> NDArray[np.float64]:
    return np.asarray(_rows(outputs)[:, 0])


def _rows(array: Array) -> NDArray[np.float64]:
    return array.reshape(len(array), -1).astype(np.float64)


def _mean(values: Array) -> Statistic:
    numbers = values.astype(np.float64)
    return lambda weights: (weights @ numbers) / weights.sum(axis=1)


def _cosines(outputs: Array, source: Array) -> NDArray[np.float64]:
    return np.asarray((_directions(outputs) * _directions(source)).sum(axis=1))


def _directions(outputs: Array) -> NDArray[np.float64]:
    """Each answer with length one; an answer of zeros stays one, and is like nothing."""
    rows = _rows(outputs)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths == 0, 1.0, lengths))


def _f1_macro(answers: Array, labels: Array) -> Statistic:
    known = np.union1d(answers, labels)
    given = (answers[:, None] == known).astype(np.float64)
    wanted = (labels[:, None] == known).astype(np.float64)

    def compute(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        both = weights @ (given * wanted)
        either = weights @ given + weights @ wanted
        there = either > 0  # a resample may lack a class
        scores = np.divide(2 * both, either, out=np.zeros_like(both), where=there)
        return np.asarray(scores.sum(axis=1) / there.sum(axis=1))

    return compute


def _explained(metric: Metric, outputs: Array, labels: Array) -> Statistic:
    errors = (outputs - labels) ** 2
    deviation = labels.std(axis=0)

    def r2(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        total = weights.sum(axis=1, keepdims=True)
        spread = (weights @ labels**2) / total - ((weights @ labels) / total) ** 2
        lost = (weights @ errors) / total
        share = np.divide(lost, spread, out=np.ones_like(lost), where=spread > 0)
        return np.asarray(1 - share.mean(axis=1))

    def nrmse(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        total = weights.sum(axis=1, keepdims=True)
        return np.asarray(np.sqrt(((weights @ (errors / deviation**2)) / total).mean(axis=1)))

    return r2 if metric is Metric.R2 else nrmse


def _rank_correlation(outputs: Array, source: Array) -> Statistic:
    """Of the pairs' cosines; ranks are the whole sample's, also in a resample."""
    ours, theirs = _pair_ranks(outputs), _pair_ranks(source)
    pairs = 1.0 - np.eye(len(outputs))  # a sample drawn twice makes no pair with itself
    both = ours * theirs

    def total(weights: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(((weights @ matrix) * weights).sum(axis=1))

    def compute(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        count = total(weights, pairs)
        mean_ours, mean_theirs = total(weights, ours) / count, total(weights, theirs) / count
        together = total(weights, both) / count - mean_ours * mean_theirs
        spread = (total(weights, ours**2) / count - mean_ours**2) * (
            total(weights, theirs**2) / count - mean_theirs**2
        )
        return np.divide(together, np.sqrt(spread), out=np.zeros_like(together), where=spread > 0)

    return compute


def _pair_ranks(outputs: Array) -> NDArray[np.float64]:
    """The rank of every pair's cosine among all pairs', from −1 to 1, symmetric with a zero diagonal."""
    directions = _directions(outputs)
    rows, columns = np.triu_indices(len(outputs), k=1)
    cosines = (directions @ directions.T)[rows, columns]
    _, inverse, counts = np.unique(cosines, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2  # of equal ones, the mean
    ranks = np.zeros((len(outputs), len(outputs)))
    ranks[rows, columns] = 2 * middle[inverse] / max(1, len(cosines) - 1) - 1
    return ranks + ranks.T
