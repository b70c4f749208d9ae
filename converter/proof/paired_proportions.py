"""The interval of a difference between two shares that were counted on the same samples.

Only samples on which source and variant disagree carry information: `lost` are those the source has right
and the variant wrong, `gained` the opposite. Shares counted as if on different samples would need many
times as many.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

__all__ = ["drop_interval", "samples_to_certify"]

_HALVINGS = 60
_MOST_SAMPLES = 10**9


def drop_interval(lost: float, gained: float, n: float, confidence: float) -> tuple[float, float]:
    """Bounds of the drop (lost − gained) / n, each by itself holding with `confidence`.

    T. Tango, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17, 1998: the bounds at which the score test, with the
    likelihood maximised under that difference, would just reject. Unlike Wald's it stays honest where
    nothing disagrees.

    Args:
        lost: Samples the source has right and the variant wrong.
        gained: The opposite. Both may be expected counts rather than whole numbers.
        n: All samples, above zero.
        confidence: Of each bound, such as 0.95; both together hold with 2 · confidence − 1.
    """
    z = NormalDist().inv_cdf(confidence)
    point = (lost - gained) / n

    def upper(lost: float, gained: float) -> float:
        return _crossing(lambda drop: _score(lost, gained, n, drop) > -z, (lost - gained) / n, 1.0)

    return -upper(gained, lost), max(point, upper(lost, gained))


def samples_to_certify(lost: float, gained: float, n: float, confidence: float, *, drop: float) -> int | None:
    """How many samples like these would certify that at most `drop` is lost; None where none would."""
    if (lost - gained) / n >= drop:
        return None

    def certifies(samples: float) -> bool:
        share = samples / n
        return drop_interval(lost * share, gained * share, samples, confidence)[1] <= drop

    low, high = 1, 1
    while not certifies(high):
        low, high = high, high * 2
        if high > _MOST_SAMPLES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if certifies(middle) else (middle, high)
    return high


def _score(lost: float, gained: float, n: float, drop: float) -> float:
    """Tango's statistic: standard errors between the difference seen and one supposed."""
    a = 2 * n
    b = -lost - gained + (2 * n - lost + gained) * drop
    c = -gained * drop * (1 - drop)
    likeliest = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)  # share of samples gained
    variance = n * (2 * likeliest + drop * (1 - drop))
    difference = lost - gained - n * drop
    if variance <= 0:
        return 0.0 if difference == 0 else math.copysign(math.inf, difference)
    return difference / math.sqrt(variance)


def _crossing(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The greatest value, from `low` on, at which what falls only once still holds."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high
