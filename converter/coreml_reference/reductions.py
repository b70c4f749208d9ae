"""Reductions, running sums, and orders along an axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from converter.coreml_reference.arguments import Arguments, Compute
from converter.coreml_reference.datatypes import Array

__all__ = ["OPERATIONS"]


def _reduced(function: Callable[..., Any]) -> Compute:
    def compute(a: Arguments) -> Array:
        x = a["x"]
        result: Array = function(x, axis=a.axes(x.ndim), keepdims=a.flag("keep_dims"))
        return result

    return compute


def _log_sum_exp(x: Array, **where: Any) -> Array:  # noqa: ANN401
    top = x.max(axis=where["axis"], keepdims=True)
    total = np.log(np.exp(x - top).sum(axis=where["axis"], keepdims=True)) + top
    return np.asarray(total if where["keepdims"] else total.squeeze(where["axis"]))


def _place(function: Callable[..., Any]) -> Compute:
    def compute(a: Arguments) -> Array:
        result: Array = function(a["x"], axis=a.integer("axis", -1), keepdims=a.flag("keep_dims"))
        return result

    return compute


def _cumsum(a: Arguments) -> Array:
    x, axis = a["x"], a.integer("axis", 0)
    if a.flag("reverse"):
        x = np.flip(x, axis)
    total = np.cumsum(x, axis=axis)
    if a.flag("exclusive"):
        total = total - x
    return np.flip(total, axis) if a.flag("reverse") else total


def _order(x: Array, axis: int, *, ascending: bool) -> Array:
    """Places in order; of equal elements the first comes first, in either direction."""
    key = x.astype(np.int64) if x.dtype.kind == "b" else x
    return np.argsort(key if ascending else -key, axis=axis, kind="stable")


def _argsort(a: Arguments) -> Array:
    return _order(a["x"], a.integer("axis", -1), ascending=a.flag("ascending"))


def _topk(a: Arguments) -> Array | tuple[Array, Array]:
    x, axis, k = a["x"], a.integer("axis", -1), a.integer("k", 1)
    k = x.shape[axis] if k < 0 else k
    places = np.take(_order(x, axis, ascending=a.flag("ascending")), np.arange(k), axis=axis)
    values = np.take_along_axis(x, places, axis)
    return (values, places) if a.flag("return_indices", default=True) else values


OPERATIONS: Mapping[str, Compute] = {
    "argsort": _argsort,
    "cumsum": _cumsum,
    "reduce_argmax": _place(np.argmax),
    "reduce_argmin": _place(np.argmin),
    "reduce_l1_norm": _reduced(lambda x, **where: np.abs(x).sum(**where)),
    "reduce_l2_norm": _reduced(lambda x, **where: np.sqrt(np.square(x).sum(**where))),
    "reduce_log_sum": _reduced(lambda x, **where: np.log(x.sum(**where))),
    "reduce_log_sum_exp": _reduced(_log_sum_exp),
    "reduce_max": _reduced(np.max),
    "reduce_mean": _reduced(np.mean),
    "reduce_min": _reduced(np.min),
    "reduce_prod": _reduced(np.prod),
    "reduce_sum": _reduced(np.sum),
    "reduce_sum_square": _reduced(lambda x, **where: np.square(x).sum(**where)),
    "topk": _topk,
}
