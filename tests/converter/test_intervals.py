"""Wilson's interval, and percentiles of measured times."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from converter.intervals import percentile, ppm, wilson_interval

counts = st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_wilson_gives_the_published_figures() -> None:
    """Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I."""
    low, high = wilson_interval(81, 263, 0.95)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    low, high = wilson_interval(0, 20, 0.95)
    assert (low, round(high, 4)) == (0.0, 0.1611)


@given(counts, st.floats(0.5, 0.9999))
def test_the_interval_surrounds_the_share(count: tuple[int, int], confidence: float) -> None:
    correct, n = count
    low, high = wilson_interval(correct, n, confidence)
    assert 0.0 <= low <= correct / n <= high <= 1.0


@given(counts)
def test_more_confidence_is_never_narrower(count: tuple[int, int]) -> None:
    narrow, wide = wilson_interval(*count, 0.9), wilson_interval(*count, 0.99)
    assert wide[0] <= narrow[0]
    assert narrow[1] <= wide[1]


@given(counts)
def test_the_interval_solves_wilsons_equation(count: tuple[int, int]) -> None:
    """Each bound lies exactly z standard errors, at that bound, from the share."""
    correct, n = count
    z = 1.959963984540054
    for bound in wilson_interval(correct, n, 0.95):
        assume(0.0 < bound < 1.0)
        error = math.sqrt(bound * (1 - bound) / n)
        assert abs(correct / n - bound) == pytest.approx(z * error, rel=1e-6, abs=1e-9)


@given(counts)
def test_mirrored_counts_have_mirrored_intervals(count: tuple[int, int]) -> None:
    correct, n = count
    low, high = wilson_interval(correct, n, 0.95)
    assert wilson_interval(n - correct, n, 0.95) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@given(st.lists(st.integers(0, 10**6), min_size=1), st.floats(0.0, 1.0))
def test_a_percentile_is_a_value_that_enough_do_not_exceed(values: list[int], share: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


def test_parts_per_million_are_rounded() -> None:
    assert ppm(537 / 540) == 994_444
