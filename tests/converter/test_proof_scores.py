"""Metrics against scikit-learn's and SciPy's, and what holds of any weighting."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from converter.goals import Goal
from converter.proof.metrics import Labels, Metric
from converter.proof.scores import statistic

seeds = st.integers(0, 2**32 - 1)


def _goal(metric: Metric) -> Goal:
    return Goal(metric=metric, max_drop=0.01, tolerance=0.5)


def _value(metric: Metric, outputs: Any, source: Any, labels: Any) -> float:
    return float(statistic(_goal(metric), outputs, source, labels)(np.ones((1, len(outputs))))[0])


def _sample(metric: Metric, seed: int, n: int) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(seed)
    source = random.normal(size=(n, 7)).astype(np.float32)
    outputs = source + random.normal(scale=0.4, size=source.shape).astype(np.float32)
    labels: Any = None
    if metric.labels is Labels.CLASSES:
        labels = random.integers(0, 7, n)
    if metric.labels is Labels.VALUES:
        labels = source + random.normal(scale=0.3, size=source.shape)
    return outputs, source, labels


@given(seeds, st.integers(3, 60))
def test_classes_are_scored_as_scikit_learn_scores_them(seed: int, n: int) -> None:
    outputs, source, labels = _sample(Metric.ACCURACY, seed, n)
    answers = outputs.argmax(axis=1)
    expected = {
        Metric.ACCURACY: oracle.accuracy_score(labels, answers),
        Metric.TOP5_ACCURACY: oracle.top_k_accuracy_score(labels, outputs, k=5, labels=range(7)),
        Metric.F1_MACRO: oracle.f1_score(labels, answers, average="macro", zero_division=0.0),
    }
    for metric, value in expected.items():
        assert _value(metric, outputs, source, labels) == pytest.approx(value)


@given(seeds, st.integers(3, 60))
def test_values_are_scored_as_scikit_learn_scores_them(seed: int, n: int) -> None:
    outputs, source, labels = _sample(Metric.R2, seed, n)
    assert _value(Metric.R2, outputs, source, labels) == pytest.approx(oracle.r2_score(labels, outputs))
    scaled = oracle.mean_squared_error(labels / labels.std(axis=0), outputs / labels.std(axis=0)) ** 0.5
    assert _value(Metric.NRMSE, outputs, source, labels) == pytest.approx(scaled)


@given(seeds, st.integers(3, 40))
def test_embeddings_are_scored_as_scipy_scores_them(seed: int, n: int) -> None:
    outputs, source, _ = _sample(Metric.RANK_CORRELATION, seed, n)
    pairs = np.triu_indices(n, 1)
    ours, theirs = (oracle.pairwise.cosine_similarity(item.astype(np.float64)) for item in (outputs, source))
    spearman = importlib.import_module("scipy.stats").spearmanr(ours[pairs], theirs[pairs]).statistic
    assert _value(Metric.RANK_CORRELATION, outputs, source, None) == pytest.approx(spearman, abs=1e-9)
    cosines = oracle.pairwise.paired_cosine_distances(outputs.astype(np.float64), source.astype(np.float64))
    assert _value(Metric.MEAN_COSINE, outputs, source, None) == pytest.approx(1 - cosines.mean())


def test_equal_answers_have_equal_ranks() -> None:
    """Half of the pairs tie; SciPy gives them the mean of their ranks, too."""
    source = np.repeat(np.eye(4), 3, axis=0)
    outputs = source + np.linspace(0, 0.1, 12)[:, None]
    pairs = np.triu_indices(12, 1)
    ours, theirs = (oracle.pairwise.cosine_similarity(item)[pairs].round(12) for item in (outputs, source))
    spearman = importlib.import_module("scipy.stats").spearmanr(ours, theirs).statistic
    assert _value(Metric.RANK_CORRELATION, outputs, source, None) == pytest.approx(spearman, abs=0.02)


@pytest.mark.parametrize("metric", [item for item in Metric if item is not Metric.RANK_CORRELATION])
@given(seed=seeds)
def test_a_weight_of_two_is_a_sample_seen_twice(metric: Metric, seed: int) -> None:
    """What the bootstrap rests on. (A rank correlation keeps the ranks of the whole sample.)"""
    outputs, source, labels = _sample(metric, seed, 20)
    counts = np.random.default_rng(seed).integers(0, 3, 20)
    counts[:2] = 1
    if metric is Metric.NRMSE:
        # its unit is the deviation in the whole sample, on purpose
        assert metric.labels is Labels.VALUES
        return
    weighted = float(statistic(_goal(metric), outputs, source, labels)(counts[None].astype(float))[0])
    again = np.repeat(np.arange(20), counts)
    repeated = _value(metric, outputs[again], source[again], None if labels is None else labels[again])
    assert weighted == pytest.approx(repeated, abs=1e-9)


@pytest.mark.parametrize("metric", list(Metric))
def test_the_source_loses_nothing_against_itself(metric: Metric) -> None:
    _, source, labels = _sample(metric, 5, 40)
    value = _value(metric, source, source, labels)
    assert metric.drop(value, value) == 0.0
    if metric.labels is Labels.NONE:
        assert value == pytest.approx(1.0)


def test_a_model_that_answers_the_same_for_all_is_never_right_by_luck() -> None:
    outputs = np.zeros((10, 9))
    labels = np.arange(10) % 9
    assert _value(Metric.TOP5_ACCURACY, outputs, outputs, labels) == 0.0
    assert _value(Metric.RANK_CORRELATION, outputs, np.eye(10), None) == 0.0


def test_a_metric_says_what_it_lacks() -> None:
    with pytest.raises(ValueError, match="accuracy needs labels"):
        statistic(_goal(Metric.ACCURACY), np.eye(3), np.eye(3), None)


@pytest.mark.parametrize(
    ("metric", "source", "variant", "drop"),
    [(Metric.ACCURACY, 0.9, 0.8, 0.1), (Metric.NRMSE, 0.2, 0.3, 0.1), (Metric.R2, 0.8, 0.9, -0.1)],
)
def test_a_drop_is_a_loss_whichever_way_is_better(
    metric: Metric, source: float, variant: float, drop: float
) -> None:
    assert metric.drop(source, variant) == pytest.approx(drop)
