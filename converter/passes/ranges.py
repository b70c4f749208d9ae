"""What values tensors take on the calibration set, and the range to quantize them in.

One owner for every runtime: its own tools differ in what they mean by a method, and keep every activation of
every sample in memory. Here a tensor costs a histogram, whatever the number of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from converter.errors import PassError, Reason
from converter.variants import Calibration
from edge_runtime.port import AnyArray

__all__ = ["Observations", "Range", "ranges_of", "seen"]

_BINS = 4096
_SIZE_BINS = 512
"""Of sizes without their sign; far fewer, or the bins of one would fall unevenly into those of the other."""
_PERCENTILE = 99.99
"""Of the values that are not zero, on both sides together; what lies outside is clipped."""
_LEVELS = 128
"""Of an eight-bit tensor on one side of zero, for the entropy method."""

Observations = Callable[[], Iterable[Mapping[str, AnyArray]]]
"""Begins a new walk over the calibration set: the float tensors of each sample by name."""


@dataclass(slots=True, kw_only=True)
class Range:
    """Of one tensor over all samples."""

    low: float = np.inf
    high: float = -np.inf
    least: float = np.inf
    """The smallest size of a value that is not zero."""
    counts: AnyArray = field(default_factory=lambda: np.zeros(_BINS, dtype=np.int64))

    def widen(self, values: AnyArray) -> None:
        """Take a sample's values in."""
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        sizes = np.abs(values[values != 0])
        if sizes.size:
            self.least = min(self.least, float(sizes.min()))

    def count(self, values: AnyArray) -> None:
        """Count a sample's values; the bounds are final by then.

        Zeros are not counted: every scale holds them exactly, and the many that a ReLU makes would have all
        else clipped.
        """
        if self.high > self.low:
            values = values[values != 0]
            self.counts += np.histogram(values, bins=_BINS, range=(self.low, self.high))[0]


def seen(observe: Observations, *, job_name: str) -> dict[str, Range]:
    """The bounds of every tensor.

    Raises:
        PassError: A tensor holds NaN or infinity.
    """
    found: dict[str, Range] = {}
    for tensors in observe():
        for name, values in tensors.items():
            if not values.size:
                continue
            if not np.isfinite(values).all():
                message = f"tensor {name} holds NaN or infinity on the calibration set"
                raise PassError(job_name, Reason.NOT_FINITE, message)
            found.setdefault(name, Range()).widen(values)
    return found


def ranges_of(
    observe: Observations, calibration: Calibration, *, job_name: str
) -> dict[str, tuple[float, float]]:
    """The range of every tensor by a method; zero lies in each, as padding and activations need it.

    Raises:
        PassError: A tensor holds NaN or infinity.
    """
    found = seen(observe, job_name=job_name)
    if calibration is not Calibration.MINMAX:
        for tensors in observe():
            for name, values in tensors.items():
                if values.size:
                    found[name].count(values)
    chosen = {
        Calibration.MINMAX: lambda item: (item.low, item.high),
        Calibration.PERCENTILE: _percentile,
        Calibration.ENTROPY: _entropy,
    }[calibration]
    bounds = {name: chosen(item) for name, item in found.items()}
    return {name: (min(low, 0.0), max(high, 0.0)) for name, (low, high) in bounds.items()}


def _percentile(item: Range) -> tuple[float, float]:
    total = item.counts.sum()
    if not total:
        return item.low, item.high
    edges = np.linspace(item.low, item.high, _BINS + 1)
    below = np.cumsum(item.counts) / total
    tail = (1 - _PERCENTILE / 100) / 2
    first = int(np.searchsorted(below, tail, side="right"))
    last = int(np.searchsorted(below, 1 - tail, side="left"))
    return float(edges[first]), float(edges[last + 1])


def _entropy(item: Range) -> tuple[float, float]:
    """Clip where what eight bits can tell apart loses the least information (Kullback-Leibler)."""
    if not item.counts.sum():
        return item.low, item.high
    edges = np.linspace(item.low, item.high, _BINS + 1)
    sizes = np.abs((edges[:-1] + edges[1:]) / 2)
    greatest = max(-item.low, item.high)
    counts = np.histogram(sizes, bins=_SIZE_BINS, range=(0.0, greatest), weights=item.counts)[0]
    stops = range(_LEVELS, _SIZE_BINS + 1, _LEVELS // 32)
    best = min(stops, key=lambda stop: _divergence(counts, stop))
    limit = greatest * best / _SIZE_BINS
    return max(item.low, -limit), min(item.high, limit)


def _divergence(counts: AnyArray, stop: int) -> float:
    """Of the distribution in the first bins, what is beyond clipped, from itself in few levels."""
    kept = counts[:stop]
    clipped = kept.copy()
    clipped[-1] += counts[stop:].sum()
    level = np.arange(stop) * _LEVELS // stop
    filled = kept > 0
    totals = np.bincount(level, weights=kept, minlength=_LEVELS)
    members = np.bincount(level, weights=filled, minlength=_LEVELS)
    spread = np.where(filled, (totals / np.maximum(members, 1))[level], 0.0)
    if not spread.sum():
        return np.inf
    wanted, given = clipped / clipped.sum(), spread / spread.sum()
    both = (wanted > 0) & (given > 0)
    lost = wanted[(wanted > 0) & ~(given > 0)].sum()
    return float((wanted[both] * np.log(wanted[both] / given[both])).sum() + lost)
