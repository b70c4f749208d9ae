"""Which infinities among a model's constants are meant."""

from __future__ import annotations

import numpy as np

from edge_runtime.port import AnyArray

__all__ = ["means_infinity"]


def means_infinity(array: AnyArray) -> bool:
    """A bound that is none, or an attention mask: zeros and minus infinities. NaN is never meant."""
    if np.isnan(array).any():
        return False
    return array.size == 1 or bool(np.all((array == 0) | np.isneginf(array)))
