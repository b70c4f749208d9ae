"""Bounds of any statistic of weighted samples, by drawing the samples anew.

B. Efron, "Better bootstrap confidence intervals", JASA 82, 1987: BCa, percentiles shifted for the bias and
skewness that resamples and a jackknife show. The draws come from a fixed seed: equal inputs, equal bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from converter.proof.scores import Statistic

__all__ = ["bounds"]

_DRAWS = 2000
_SEED = 20_260
_GROUPS = 400
"""Of a jackknife: leaving out groups instead of single samples says the same in less time."""
_CHUNK = 2**22
"""Weights held at a time."""


def bounds(statistic: Statistic, n: int, confidence: float) -> tuple[float, float]:
    """Bounds that each hold by itself with `confidence`.

    Args:
        statistic: The samples' weights to values.
        n: Samples.
        confidence: Such as 0.95; both bounds together hold with 2 · confidence − 1.
    """
    (point,) = statistic(np.ones((1, n)))
    drawn = np.sort(np.concatenate([statistic(weights) for weights in _draws(n)]))
    below = (np.searchsorted(drawn, point, "left") + np.searchsorted(drawn, point, "right")) / 2 / _DRAWS
    normal = NormalDist()
    bias = normal.inv_cdf(min(max(below, 1 / _DRAWS), 1 - 1 / _DRAWS))
    skew = _skewness(statistic, n)

    def quantile(z: float) -> float:
        shifted = bias + (bias + z) / max(1e-6, 1 - skew * (bias + z))
        return float(np.quantile(drawn, normal.cdf(shifted)))

    z = normal.inv_cdf(confidence)
    return min(float(point), quantile(-z)), max(float(point), quantile(z))


def _draws(n: int) -> Iterator[NDArray[np.float64]]:
    """How often each sample is drawn, a row for each time."""
    random = np.random.default_rng(_SEED)
    rows = max(1, _CHUNK // n)
    for start in range(0, _DRAWS, rows):
        count = min(rows, _DRAWS - start)
        drawn = random.integers(0, n, size=(count, n)) + n * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n).astype(np.float64)


def _skewness(statistic: Statistic, n: int) -> float:
    """Efron's acceleration, from leaving out one group of samples after another."""
    groups = np.arange(n) % min(n, _GROUPS)
    count = int(groups.max()) + 1
    if count == 1:
        return 0.0
    values = []
    rows = max(1, _CHUNK // n)
    for start in range(0, count, rows):
        left_out = np.arange(start, min(start + rows, count))
        values.append(statistic((groups[None, :] != left_out[:, None]).astype(np.float64)))
    away = np.concatenate(values)
    away = away.mean() - away
    spread = float((away**2).sum())
    return 0.0 if spread == 0 else float((away**3).sum()) / (6 * spread**1.5)
