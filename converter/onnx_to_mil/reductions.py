"""Reductions and orders: sums, norms, extremes and where they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from converter.onnx_importing.shapes import reduced_axes
from converter.onnx_to_mil.node import Convert, Node, Value, dims, is_bool, is_float, mb

__all__ = ["OPERATORS"]


def _reduced(before: Callable[[Value], Value], make: str, after: Callable[[Value], Value]) -> Convert:
    def convert(node: Node) -> Value:
        axes, keep = reduced_axes(node), bool(node.attr("keepdims", 1))
        x = node.var(0)
        truth = is_bool(x)
        x = before(mb.cast(x=x, dtype="int32") if truth else x)
        if axes is not None and dims(x):
            x = getattr(mb, make)(x=x, axes=axes, keep_dims=keep)
        result = after(x)
        return mb.cast(x=result, dtype="bool") if truth else result

    return convert


def _same(x: Value) -> Value:
    return x


def _squared(x: Value) -> Value:
    return mb.mul(x=x, y=x)


def _logarithm(x: Value) -> Value:
    return mb.log(x=x)


def _log_sum_exp(node: Node) -> Value:
    axes, x = reduced_axes(node), node.var(0)
    if axes is None or not dims(x):
        return mb.identity(x=x)
    return mb.reduce_log_sum_exp(x=x, axes=axes, keep_dims=bool(node.attr("keepdims", 1)))


def _root(x: Value) -> Value:
    return mb.sqrt(x=x) if is_float(x) else mb.cast(x=mb.sqrt(x=mb.cast(x=x, dtype="fp32")), dtype="int32")


def _arg(make: str) -> Convert:
    def convert(node: Node) -> Value:
        x, keep = node.var(0), bool(node.attr("keepdims", 1))
        axis = node.attr("axis", 0) % len(dims(x))
        if not node.attr("select_last_index", 0):
            return getattr(mb, make)(x=x, axis=axis, keep_dims=keep)
        # The last of equals is the first of them from behind.
        found = getattr(mb, make)(x=mb.reverse(x=x, axes=[axis]), axis=axis, keep_dims=keep)
        return mb.sub(x=np.int32(dims(x)[axis] - 1), y=found)

    return convert


def _top(node: Node) -> tuple[Value, Value]:
    x = node.var(0)
    (count,) = node.integers(1, "k")
    axis = node.attr("axis", -1) % len(dims(x))
    ascending = not node.attr("largest", 1)
    return tuple(mb.topk(x=x, k=count, axis=axis, ascending=ascending, sort=True))


def _cumulated(node: Node) -> Value:
    (axis,) = node.integers(1, "axis")
    return mb.cumsum(
        x=node.var(0), axis=axis % len(dims(node.var(0))), exclusive=bool(node.attr("exclusive", 0)),
        reverse=bool(node.attr("reverse", 0)),
    )  # fmt: skip


def _one_hot(node: Node) -> Value:
    depth = node.integers(1, "depth")[0]
    off, on = node.constant(2, "values")
    indices = node.var(0)
    if is_float(indices):
        indices = mb.cast(x=indices, dtype="int32")
    rank = len(dims(indices)) + 1
    indices = mb.select(
        cond=mb.less(x=indices, y=np.int32(0)), a=mb.add(x=indices, y=np.int32(depth)), b=indices
    )
    kind = np.float32 if node.stated[0].elem_type in (TensorProto.FLOAT, TensorProto.DOUBLE) else np.int32
    return mb.one_hot(
        indices=indices, one_hot_vector_size=depth, axis=node.attr("axis", -1) % rank,
        on_value=kind(on), off_value=kind(off),
    )  # fmt: skip


OPERATORS: dict[str, Convert] = {
    "ReduceSum": _reduced(_same, "reduce_sum", _same), "ReduceMean": _reduced(_same, "reduce_mean", _same),
    "ReduceMax": _reduced(_same, "reduce_max", _same), "ReduceMin": _reduced(_same, "reduce_min", _same),
    "ReduceProd": _reduced(_same, "reduce_prod", _same),
    "ReduceL1": _reduced(lambda x: mb.abs(x=x), "reduce_sum", _same),
    "ReduceL2": _reduced(_squared, "reduce_sum", _root),
    "ReduceSumSquare": _reduced(_squared, "reduce_sum", _same),
    "ReduceLogSum": _reduced(_same, "reduce_sum", _logarithm), "ReduceLogSumExp": _log_sum_exp,
    "ArgMax": _arg("reduce_argmax"), "ArgMin": _arg("reduce_argmin"), "TopK": _top, "CumSum": _cumulated,
    "OneHot": _one_hot,
}  # fmt: skip
