"""Whether a variant is still the source model: parity, tolerances for devices, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from converter.proof.comparison import Comparison
from converter.variants import Precision

__all__ = ["GOLDEN_CEILING", "Findings", "parity_limit", "tolerance_for", "verdict"]

_HEADROOM = 4.0
"""Another instruction set sums in another order and rounds elsewhere: integers move by a step or two."""
_FLOORS = {
    Precision.FP32: 1e-4,
    Precision.FP16: 2e-2,
    Precision.MIXED: 2e-2,
    # Measured on the digits model in every runtime that has them: 0.007 to 0.013, half floats' own order.
    Precision.INT8_WEIGHTS: 2e-2,
    Precision.INT16X8: 2e-2,
    Precision.PALETTE8: 2e-2,
}
_INTEGER_FLOOR = 5e-2
"""Tolerance where nothing was measured here, or the difference was none by luck."""
_PARITY = {Precision.FP32: 1e-3, Precision.FP16: 5e-2, Precision.MIXED: 5e-2}
"""Greatest difference from the source a faithful conversion may show; integers are judged by the metric."""
GOLDEN_CEILING = 0.5
"""A probability off by half says nothing about the answer any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What running a variant showed, in its runtime or in what evaluates its file instead."""

    comparison: Comparison | None
    """What the answers are worth by the recipe's metric; None where there are none."""
    max_abs: Mapping[str, float] = field(default_factory=dict)
    """Greatest difference from the source on the evaluation set, by output."""
    golden_max_abs: Mapping[str, float] = field(default_factory=dict)
    batch_max_abs: float = 0.0
    """Greatest difference between a sample alone and in a batch."""
    failure: str = ""
    """What raised, if anything did."""
    not_run: str = ""
    """What of the model could not be evaluated here: then nothing was compared, and nothing is claimed."""
    placement: Mapping[str, Any] = field(default_factory=dict)
    """Where the runtime of this host computes its operators; see `converter.passes.placement`."""
    scale: Mapping[str, float] = field(default_factory=dict)
    """The greatest size of the source's numbers by output, at least 1: floats round in proportion to it."""

    def scale_of(self, output: str) -> float:
        """What differences in an output are relative to."""
        return self.scale.get(output, 1.0)


def parity_limit(precision: Precision) -> float:
    """How far from the source's an answer may lie; infinite where the metric decides alone."""
    return _PARITY.get(precision, math.inf)


def tolerance_for(precision: Precision, measured: float | None, scale: float = 1.0) -> float:
    """How far a device's answer to a golden vector may lie from the source's.

    Args:
        precision: Of the variant.
        measured: The greatest difference seen here, or None where the variant could not run.
        scale: The greatest size of the source's numbers, at least 1.
    """
    wanted = max(_floor(precision) * scale, _HEADROOM * (measured or 0.0))
    return min(GOLDEN_CEILING * scale, _rounded_up(wanted))


def verdict(findings: Findings, precision: Precision, *, max_drop: float) -> str:
    """Why the variant fails, or an empty string."""
    if findings.failure:
        return findings.failure
    for name, difference in findings.max_abs.items():
        limit = parity_limit(precision) * findings.scale_of(name)
        if not difference <= limit:
            return f"{name} differs from the source by {difference:.3g}, at most {limit:g} is parity"
    for name, difference in findings.golden_max_abs.items():
        if not difference <= GOLDEN_CEILING * findings.scale_of(name):
            return f"{name} differs from the source by {difference:.3g} on a golden vector"
    if not findings.batch_max_abs <= _floor(precision) * max(findings.scale.values(), default=1.0):
        return f"a sample in a batch is answered {findings.batch_max_abs:.3g} apart from the same one alone"
    lost = findings.comparison
    if lost is not None and lost.drop.value > max_drop:
        worse = f"{lost.metric.value} {lost.metric.verb} by {lost.drop.value:.4f}"
        return f"{worse}, at most {max_drop:g} is allowed"
    return ""


def _floor(precision: Precision) -> float:
    return _FLOORS.get(precision, _INTEGER_FLOOR)


def _rounded_up(value: float) -> float:
    """To one significant digit: a figure derived from one host's noise should not pretend to more."""
    exponent = math.floor(math.log10(value))
    digit = math.ceil(round(value / 10**exponent, 6))
    return float(f"{digit}e{exponent}")
