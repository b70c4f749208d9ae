"""Chooses the values of a palette: one-dimensional k-means, the same on every host.

The clusters of numbers on a line are intervals of the sorted values, so a step of k-means is a search in
sorted boundaries and differences of running sums. scikit-learn, which coremltools would use, sums in an
order that depends on the number of threads.
"""

from __future__ import annotations

import numpy as np

from edge_runtime.port import AnyArray

__all__ = ["palette"]

_MOST_ROUNDS = 300


def palette(values: AnyArray, bits: int) -> tuple[AnyArray, AnyArray]:
    """A palette for an array.

    Returns:
        2**bits ascending entries of the array's type, the last repeated where there are fewer values; and
        for each value, flattened, the index of its entry (UINT8).
    """
    distinct, inverse, counts = np.unique(values.reshape(-1), return_inverse=True, return_counts=True)
    exact = distinct.astype(np.float64)
    size = min(1 << bits, len(exact))
    weight = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])
    total = np.concatenate([[0.0], np.cumsum(exact * counts)])
    centres = _spread(exact, weight, size)
    for _ in range(_MOST_ROUNDS):
        bounds = _bounds(exact, centres)
        members = weight[bounds[1:]] - weight[bounds[:-1]]
        sums = total[bounds[1:]] - total[bounds[:-1]]
        moved = np.where(members > 0, sums / np.maximum(members, 1), centres)
        if np.array_equal(moved, centres):
            break
        centres = np.sort(moved)
    entries = np.sort(centres.astype(values.dtype))
    bounds = _bounds(exact, entries.astype(np.float64))
    index = np.repeat(np.arange(size), np.diff(bounds)).astype(np.uint8)
    table = np.full(1 << bits, entries[-1], dtype=values.dtype)
    table[:size] = entries
    return table, index[inverse.reshape(-1)]


def _spread(exact: AnyArray, weight: AnyArray, size: int) -> AnyArray:
    """Where to begin: between rank, which serves the crowd, and distance, which serves the rare."""
    share = (np.arange(size) + 0.5) / size
    by_rank = exact[np.clip(np.searchsorted(weight, share * weight[-1], side="right") - 1, 0, len(exact) - 1)]
    by_distance = exact[0] + share * (exact[-1] - exact[0])
    return np.sort((by_rank + by_distance) / 2)


def _bounds(exact: AnyArray, centres: AnyArray) -> AnyArray:
    """Where in the sorted values each centre's begin, and the end of all."""
    middles = (centres[:-1] + centres[1:]) / 2
    return np.concatenate([[0], np.searchsorted(exact, middles), [len(exact)]])
