"""Intervals of what a variant loses hold what they promise, and never more than n allows."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from converter.goals import Goal
from converter.proof.bootstrap import bounds
from converter.proof.comparison import compare, quality
from converter.proof.metrics import Labels, Metric
from converter.proof.paired_proportions import drop_interval, samples_to_certify
from converter.proof.scores import Statistic

Counts = tuple[int, int, int]
counts = st.integers(5, 3000).flatmap(
    lambda n: st.integers(0, n).flatmap(
        lambda lost: st.tuples(st.just(lost), st.integers(0, n - lost), st.just(n))
    )
)
seeds = st.integers(0, 2**32 - 1)


@given(counts)
def test_the_interval_surrounds_the_drop(count: Counts) -> None:
    lost, gained, n = count
    low, high = drop_interval(lost, gained, n, 0.95)
    assert -1.0 <= low <= (lost - gained) / n <= high <= 1.0


@given(counts)
def test_swapping_source_and_variant_mirrors_the_interval(count: Counts) -> None:
    lost, gained, n = count
    low, high = drop_interval(lost, gained, n, 0.95)
    assert drop_interval(gained, lost, n, 0.95) == pytest.approx((-high, -low), abs=1e-12)


@given(counts)
def test_each_bound_is_where_the_score_test_just_rejects(count: Counts) -> None:
    """With the likelihood maximised by search over a grid instead of in closed form."""
    lost, gained, n = count
    _, high = drop_interval(lost, gained, n, 0.95)
    assume(1e-3 < high < 0.999)
    shares = np.linspace(1e-9, (1 - high) / 2 - 1e-9, 200_001)
    likelihood = (
        lost * np.log(shares + high)
        + gained * np.log(shares)
        + (n - lost - gained) * np.log1p(-2 * shares - high)
    )
    share = float(shares[likelihood.argmax()])
    score = (lost - gained - n * high) / math.sqrt(n * (2 * share + high * (1 - high)))
    assert score == pytest.approx(-NormalDist().inv_cdf(0.95), rel=2e-3)


@given(counts, st.integers(2, 20))
def test_more_samples_of_the_same_kind_certify_more(count: Counts, times: int) -> None:
    lost, gained, n = count
    few = drop_interval(lost, gained, n, 0.95)
    many = drop_interval(lost * times, gained * times, n * times, 0.95)
    assert few[0] <= many[0] + 1e-12
    assert many[1] <= few[1] + 1e-12


@given(counts)
def test_more_confidence_is_never_narrower(count: Counts) -> None:
    narrow, wide = drop_interval(*count, 0.9), drop_interval(*count, 0.99)
    assert wide[0] <= narrow[0]
    assert narrow[1] <= wide[1]


def test_no_disagreement_is_no_proof_of_none() -> None:
    """About the rule of three: 100 samples alike say that less than 2.7 % differ for the worse."""
    assert drop_interval(0, 0, 100, 0.95)[1] == pytest.approx(1.6449**2 / (100 + 1.6449**2), rel=1e-4)


def test_what_hundreds_of_samples_cannot_say() -> None:
    """At 5 % disagreement: 500 samples certify 1.7 points, 0.5 points take more than 5,000."""
    assert drop_interval(12.5, 12.5, 500, 0.95)[1] == pytest.approx(0.0172, abs=1e-4)
    assert samples_to_certify(12.5, 12.5, 500, 0.95, drop=0.005) == pytest.approx(5412, rel=0.02)
    assert samples_to_certify(25, 0, 500, 0.95, drop=0.05) is None


@given(counts, st.floats(0.001, 0.2))
def test_as_many_samples_as_are_called_for_suffice(count: Counts, drop: float) -> None:
    lost, gained, n = count
    needed = samples_to_certify(lost, gained, n, 0.95, drop=drop)
    if needed is None:
        assert (lost - gained) / n >= drop - 1e-4
        return
    share = needed / n
    assert drop_interval(lost * share, gained * share, needed, 0.95)[1] <= drop
    if needed > 1:
        share = (needed - 1) / n
        assert drop_interval(lost * share, gained * share, needed - 1, 0.95)[1] > drop


@pytest.mark.parametrize(("n", "lost", "gained"), [(100, 0.02, 0.02), (270, 0.03, 0.01), (540, 0.01, 0.002)])
def test_the_bound_of_a_drop_covers_the_truth(n: int, lost: float, gained: float) -> None:
    """Drawn anew 3,000 times; 95 % asked of each bound, 93 % demanded."""
    random = np.random.default_rng(3)
    draws = random.multinomial(n, [lost, gained, 1 - lost - gained], size=3000)
    kinds, times = np.unique(draws[:, :2], axis=0, return_counts=True)
    highs = np.array([drop_interval(int(b), int(c), n, 0.95)[1] for b, c in kinds])
    covered = float(times[highs >= lost - gained].sum()) / 3000
    assert covered >= 0.93


def test_the_bound_of_a_skewed_mean_covers_the_truth() -> None:
    """Losses like those of cosines: mostly small, some large. True mean 0.02."""
    random, n = np.random.default_rng(9), 60
    covered = sum(bounds(_mean_of(random.gamma(0.8, 0.025, size=n)), n, 0.95)[1] >= 0.02 for _ in range(200))
    assert 0.9 <= covered / 200 <= 0.99


@pytest.mark.parametrize("metric", list(Metric))
def test_equal_inputs_give_equal_bounds_around_the_drop(metric: Metric) -> None:
    source, outputs, labels = _answers(metric, 11, n=120, noise=0.6)
    first, second = (_compared(metric, source, outputs, labels) for _ in range(2))
    assert first == second
    assert first.drop.low <= first.drop.value <= first.drop.high
    assert first.quality.low <= first.quality.value <= first.quality.high
    of_source = quality(_goal(metric), source=source, labels=labels)
    assert of_source.value == pytest.approx(first.source)
    assert first.drop.value == pytest.approx(metric.drop(of_source.value, first.quality.value), abs=1e-9)


@pytest.mark.parametrize("metric", list(Metric))
def test_more_noise_is_a_greater_drop(metric: Metric) -> None:
    drops = [
        _compared(metric, *_answers(metric, 2, n=200, noise=noise)).drop.value for noise in (0.0, 0.3, 3.0)
    ]
    assert drops[0] == pytest.approx(0.0, abs=1e-9)
    assert drops[0] <= drops[1] < drops[2]


@pytest.mark.parametrize("metric", list(Metric))
def test_choosing_among_several_widens_the_bounds(metric: Metric) -> None:
    answers = _answers(metric, 4, n=150, noise=0.5)
    once, thrice = _compared(metric, *answers), _compared(metric, *answers, looks=3)
    assert thrice.drop.low < once.drop.low <= once.drop.high < thrice.drop.high
    assert thrice.quality == once.quality
    assert thrice.drop_confidence == pytest.approx(1 - 0.05 / 3)


def test_rare_disagreements_are_not_taken_for_none() -> None:
    """The bootstrap alone would say that nothing is lost, with certainty."""
    source = np.eye(4)[np.arange(80) % 4]
    compared = _compared(Metric.F1_MACRO, source, source, np.arange(80) % 4)
    assert compared.drop.value == 0.0
    assert compared.drop.high == pytest.approx(drop_interval(0, 0, 80, 0.95)[1])


def test_a_rank_correlation_looks_at_so_many_samples_and_says_so() -> None:
    random = np.random.default_rng(1)
    source = random.normal(size=(1500, 4))
    compared = _compared(Metric.RANK_CORRELATION, source, source + random.normal(0, 0.2, source.shape), None)
    assert compared.n == 1000
    assert 0.7 < compared.quality.value < 0.99


def test_the_proof_says_what_n_allows() -> None:
    source = np.eye(2)[np.zeros(500, int)]
    outputs = source.copy()
    outputs[:13] = outputs[:13, ::-1]
    labels = np.zeros(500, int)
    labels[:6] = 1
    compared = _compared(Metric.ACCURACY, source, outputs, labels)
    assert not compared.certifies(0.005)
    assert compared.proof(0.005).startswith(
        "500 samples cannot certify at 95 % confidence a drop of at most 0.5 points: they certify 1.5"
    )
    assert f"about {compared.needed} such samples would" in compared.proof(0.005)
    assert compared.certifies(0.05)
    assert "within the 5 points allowed" in compared.proof(0.05)


def _mean_of(values: Any) -> Statistic:
    return lambda weights: weights @ values / weights.sum(axis=1)


def _answers(metric: Metric, seed: int, *, n: int, noise: float) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(seed)
    source = random.normal(size=(n, 7))
    labels: Any = None
    if metric.labels is Labels.CLASSES:
        labels = np.where(random.random(n) < 0.9, source.argmax(axis=1), random.integers(0, 7, n))
    if metric.labels is Labels.VALUES:
        labels = source + random.normal(scale=0.1, size=source.shape)
    return source, source + random.normal(scale=noise, size=source.shape), labels


def _compared(metric: Metric, source: Any, outputs: Any, labels: Any, *, looks: int = 1) -> Any:
    return compare(_goal(metric), source=source, outputs=outputs, labels=labels, looks=looks)


def _goal(metric: Metric) -> Goal:
    return Goal(metric=metric, max_drop=0.01, tolerance=0.5)
