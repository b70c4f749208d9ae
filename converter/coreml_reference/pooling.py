"""Pooling over windows: the greatest, the mean, the Euclidean norm."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from converter.coreml_reference.arguments import Arguments, Compute
from converter.coreml_reference.datatypes import Array
from converter.coreml_reference.windows import paddings, windows

__all__ = ["OPERATIONS"]

_Pads = tuple[tuple[int, int], ...]


def _max_pool(a: Arguments) -> Array:
    x = a["x"]
    pads, beyond = _padding(a, x)
    found: Array = _windows(a, x, _joined(pads, beyond), -np.inf).max(axis=_kernel_axes(x))
    return found


def _avg_pool(a: Arguments) -> Array:
    x = a["x"]
    pads, beyond = _padding(a, x)
    total = _windows(a, x, _joined(pads, beyond), 0.0).sum(axis=_kernel_axes(x))
    # What lies in the padding counts or not, as the model says; what ceil_mode reads beyond it never does.
    counted = np.ones((1, 1, *x.shape[2:]))
    if not a.flag("exclude_padding_from_average"):
        counted = np.pad(counted, ((0, 0), (0, 0), *pads), constant_values=1.0)
        count = _windows(a, counted, tuple((0, extra) for extra in beyond), 0.0)
    else:
        count = _windows(a, counted, _joined(pads, beyond), 0.0)
    with np.errstate(invalid="ignore"):  # a window all in the padding has no mean
        mean: Array = total / count.sum(axis=_kernel_axes(x))
    return mean


def _l2_pool(a: Arguments) -> Array:
    x = a["x"]
    pads, beyond = _padding(a, x)
    squares = np.square(_windows(a, x, _joined(pads, beyond), 0.0))
    return np.asarray(np.sqrt(squares.sum(axis=_kernel_axes(x))))


def _padding(a: Arguments, x: Array) -> tuple[_Pads, tuple[int, ...]]:
    """The padding asked for, and how far beyond it the last windows of ceil_mode reach."""
    lengths, kernel = x.shape[2:], a.integers("kernel_sizes")
    strides = _strides(a, len(lengths))
    pads = paddings(a, lengths, kernel, strides)
    if not a.flag("ceil_mode"):
        return pads, (0,) * len(lengths)
    beyond = []
    for length, k, stride, (before, after) in zip(lengths, kernel, strides, pads, strict=True):
        padded = length + before + after
        count = -(-(padded - k) // stride) + 1
        if (count - 1) * stride >= length + before and before + after > 0:
            count -= 1  # as PyTorch: a window must begin in the input or the padding before it
        beyond.append(max(0, (count - 1) * stride + k - padded))
    return pads, tuple(beyond)


def _joined(pads: _Pads, beyond: tuple[int, ...]) -> _Pads:
    return tuple((before, after + extra) for (before, after), extra in zip(pads, beyond, strict=True))


def _windows(a: Arguments, x: Array, pads: _Pads, fill: float) -> Array:
    rank = x.ndim - 2
    padded = np.pad(x, ((0, 0), (0, 0), *pads), constant_values=fill)
    return windows(padded, a.integers("kernel_sizes"), _strides(a, rank), (1,) * rank)


def _strides(a: Arguments, rank: int) -> tuple[int, ...]:
    return a.integers("strides", (1,) * rank)


def _kernel_axes(x: Array) -> tuple[int, ...]:
    return tuple(range(x.ndim, 2 * x.ndim - 2))


OPERATIONS: Mapping[str, Compute] = {"avg_pool": _avg_pool, "max_pool": _max_pool, "l2_pool": _l2_pool}
