"""Verdicts, and the tolerances devices are given."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.proof.comparison import Comparison, Estimate
from converter.proof.metrics import Metric
from converter.variants import Precision
from converter.verification import GOLDEN_CEILING, Findings, tolerance_for, verdict


def _compared(drop: float) -> Comparison:
    return Comparison(
        metric=Metric.ACCURACY,
        confidence=0.95,
        n=1000,
        source=0.99,
        quality=Estimate(value=0.99 - drop, low=0.9, high=1.0),
        drop=Estimate(value=drop, low=drop - 0.01, high=drop + 0.01),
        drop_confidence=0.95,
        agreed=990,
    )


FAITHFUL = Findings(
    comparison=_compared(0.001),
    max_abs={"scores": 1e-6},
    golden_max_abs={"scores": 1e-7},
    batch_max_abs=0.0,
)


@given(st.sampled_from(list(Precision)), st.floats(0.0, 10.0))
def test_a_tolerance_leaves_room_and_still_tells_answers_apart(precision: Precision, measured: float) -> None:
    tolerance = tolerance_for(precision, measured)
    assert tolerance <= GOLDEN_CEILING
    assert tolerance >= min(GOLDEN_CEILING, 4 * measured * (1 - 1e-6))
    assert tolerance >= tolerance_for(precision, None)


@given(st.floats(1e-4, 0.1))
def test_a_tolerance_has_one_digit(measured: float) -> None:
    mantissa, _, _ = f"{tolerance_for(Precision.FP32, measured):e}".partition("e")
    assert mantissa.rstrip("0").rstrip(".").isdigit() or mantissa.startswith("1.0")


def test_a_faithful_variant_passes() -> None:
    assert verdict(FAITHFUL, Precision.FP32, max_drop=0.01) == ""


@pytest.mark.parametrize("difference", [0.01, math.nan])
def test_a_float_variant_must_give_the_sources_answers(difference: float) -> None:
    findings = replace(FAITHFUL, max_abs={"scores": difference})
    assert "is parity" in verdict(findings, Precision.FP32, max_drop=1.0)


def test_an_integer_variant_is_judged_by_the_metric() -> None:
    findings = replace(FAITHFUL, max_abs={"scores": 0.4})
    assert verdict(findings, Precision.INT8, max_drop=0.01) == ""
    lossy = replace(findings, comparison=_compared(0.013))
    assert verdict(lossy, Precision.INT8, max_drop=0.01) == (
        "accuracy drops by 0.0130, at most 0.01 is allowed"
    )


def test_golden_vectors_must_be_answered_alike() -> None:
    findings = replace(FAITHFUL, golden_max_abs={"scores": 0.9})
    assert "on a golden vector" in verdict(findings, Precision.INT8, max_drop=1.0)


def test_a_sample_is_answered_alike_in_a_batch() -> None:
    findings = replace(FAITHFUL, batch_max_abs=0.2)
    assert verdict(findings, Precision.INT8, max_drop=1.0).startswith("a sample in a batch")


def test_what_raised_is_the_verdict() -> None:
    findings = replace(FAITHFUL, failure="output scores holds NaN or infinity")
    assert verdict(findings, Precision.FP32, max_drop=1.0) == "output scores holds NaN or infinity"
