"""The confidence interval of an accuracy, and order statistics of times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from ota_contract.manifest import MILLION

__all__ = ["bounded_ppm", "percentile", "ppm", "wilson_interval"]


def wilson_interval(correct: int, n: int, confidence: float) -> tuple[float, float]:
    """The Wilson score interval of a proportion, which stays honest near 0 and 1.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Args:
        correct: Successes, of `n` trials.
        n: At least one.
        confidence: Two-sided, such as 0.95.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = correct / n
    denominator = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / denominator
    half = z / denominator * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Rounding must not push a bound past the share it surrounds.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def ppm(share: float) -> int:
    """A share in parts per million, to the nearest."""
    return round(share * MILLION)


def bounded_ppm(value: float) -> int:
    """The same of what a manifest has no room for beyond ±1: a model that far off is worth nothing."""
    return max(-MILLION, min(MILLION, ppm(value)))


def percentile(ordered: Sequence[int], share: float) -> int:
    """The least of sorted values that at least this share of them does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
