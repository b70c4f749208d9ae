"""Normalisation by statistics given, or of the input itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from converter.coreml_reference.arguments import Arguments, Compute
from converter.coreml_reference.datatypes import Array

__all__ = ["OPERATIONS"]

_SPATIAL = (-3, -2, -1)


def _batch_norm(a: Arguments) -> Array:
    x = a["x"]
    shape = (1, -1, *(1,) * (x.ndim - 2))
    mean, variance = a["mean"].reshape(shape), a["variance"].reshape(shape)
    return _scaled(a, (x - mean) / np.sqrt(variance + a.number("epsilon", 1e-5)), shape)


def _instance_norm(a: Arguments) -> Array:
    x = a["x"]
    normal = _standardised(x, tuple(range(2, x.ndim)), a.number("epsilon", 1e-5))
    return _scaled(a, normal, (1, -1, *(1,) * (x.ndim - 2)))


def _layer_norm(a: Arguments) -> Array:
    x = a["x"]
    axes = a.axes(x.ndim)
    shape = [length if axis in axes else 1 for axis, length in enumerate(x.shape)]
    return _scaled(a, _standardised(x, axes, a.number("epsilon", 1e-5)), shape)


def _standardised(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    centred = x - x.mean(axis=axes, keepdims=True)
    variance = np.square(centred).mean(axis=axes, keepdims=True)
    result: Array = centred / np.sqrt(variance + epsilon)
    return result


def _scaled(a: Arguments, x: Array, shape: Sequence[int]) -> Array:
    gamma, beta = a.optional("gamma"), a.optional("beta")
    if gamma is not None:
        x = x * gamma.reshape(shape)
    return x if beta is None else x + beta.reshape(shape)


def _l2_norm(a: Arguments) -> Array:
    x = a["x"]
    total = np.square(x).sum(axis=_SPATIAL, keepdims=True)
    return np.asarray(x / np.sqrt(total + a.number("epsilon", 1e-6)))


def _local_response_norm(a: Arguments) -> Array:
    x, size = a["x"], a.integer("size")
    before = size // 2
    pads = ((0, 0), (before, size - 1 - before), *((0, 0),) * (x.ndim - 2))
    squares = np.pad(np.square(x), pads)
    total = np.lib.stride_tricks.sliding_window_view(squares, size, axis=1).sum(axis=-1)
    base = a.number("k", 1.0) + a.number("alpha", 1e-4) / size * total
    return np.asarray(x / np.power(base, a.number("beta", 0.75)))


OPERATIONS: Mapping[str, Compute] = {
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "l2_norm": _l2_norm,
    "layer_norm": _layer_norm,
    "local_response_norm": _local_response_norm,
}
