"""Where a value lies on an axis, and which values an axis names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Scale", "scale_of"]

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_LOGARITHMIC_FROM = 12.0
_MARGIN = 0.06
_LEAST_SPAN = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """An axis of a chart, in the chart's own units."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool
    ticks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        """The place of a value."""
        low, high, value = (
            math.log10(item) if self.logarithmic else item for item in (self.low, self.high, value)
        )
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def scale_of(
    values: Iterable[float], *, start: float, end: float, ticks: int = 5, may_be_logarithmic: bool = False
) -> Scale:
    """An axis that shows all the values with a margin.

    Args:
        values: At least one; what they span is shown.
        start: Place of the least value.
        end: Place of the greatest.
        ticks: About how many values to name.
        may_be_logarithmic: Take decades where the values span more than one.
    """
    values = tuple(values)
    low, high = min(values), max(values)
    if may_be_logarithmic and low > 0 and high / low > _LOGARITHMIC_FROM:
        spread = (high / low) ** _MARGIN
        low, high = low / spread, high * spread
        return Scale(low=low, high=high, start=start, end=end, logarithmic=True, ticks=_decades(low, high))
    # Values that are one, or nearly, get an axis about them that has numbers to name.
    span = max(high - low, _LEAST_SPAN, _LEAST_SPAN * max(abs(low), abs(high)))
    low, high = low - _MARGIN * span, high + _MARGIN * span
    return Scale(low=low, high=high, start=start, end=end, logarithmic=False, ticks=_linear(low, high, ticks))


def _linear(low: float, high: float, wanted: int) -> tuple[float, ...]:
    rough = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(item * power for item in _STEPS if item * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step)
    return tuple(index * step for index in range(first, math.floor(high / step) + 1))


def _decades(low: float, high: float) -> tuple[float, ...]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every: Sequence[float] = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return tuple(value for value in every if low <= value <= high)
