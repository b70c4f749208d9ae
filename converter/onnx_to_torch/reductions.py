"""Reductions and orders: sums, norms, extremes and where they are."""

from __future__ import annotations

from collections.abc import Callable

import torch

from converter.onnx_importing.shapes import reduced_axes
from converter.onnx_to_torch.node import Convert, Node, as_tensor, is_bool, is_float

__all__ = ["OPERATORS"]

_Change = Callable[[torch.Tensor], torch.Tensor]
_Reduce = Callable[[torch.Tensor, list[int], bool], torch.Tensor]


def _reduced(before: _Change, make: _Reduce, after: _Change) -> Convert:
    def convert(node: Node) -> torch.Tensor:
        axes, keep = reduced_axes(node), bool(node.attr("keepdims", 1))
        x = node.tensor(0)
        truth = is_bool(x)
        x = before(x.to(torch.int32) if truth else x)
        if axes is not None and x.ndim:
            x = make(x, axes, keep)
        x = after(x)
        return torch.ne(x, 0) if truth else x

    return convert


def _same(x: torch.Tensor) -> torch.Tensor:
    return x


def _squared(x: torch.Tensor) -> torch.Tensor:
    return x * x


def _sum(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:  # noqa: FBT001 - as PyTorch has it
    return torch.sum(x, axes, keepdim=keep, dtype=x.dtype)


def _mean(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:  # noqa: FBT001
    if is_float(x):
        return torch.mean(x, axes, keepdim=keep)
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return torch.div(_sum(x, axes, keep), count, rounding_mode="trunc")


def _product(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:  # noqa: FBT001
    for axis in reversed(axes):
        x = torch.prod(x, axis, keepdim=keep, dtype=x.dtype)
    return x


def _most(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:  # noqa: FBT001
    return torch.amax(x, axes, keepdim=keep)


def _least(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:  # noqa: FBT001
    return torch.amin(x, axes, keepdim=keep)


def _root(x: torch.Tensor) -> torch.Tensor:
    return torch.sqrt(x) if is_float(x) else torch.sqrt(x.to(torch.float32)).to(torch.int32)


def _log_sum_exp(node: Node) -> torch.Tensor:
    axes, x, keep = reduced_axes(node), node.tensor(0), bool(node.attr("keepdims", 1))
    if axes is None or not x.ndim:
        return x
    most = torch.amax(x, axes, keepdim=True)
    total = torch.log(torch.sum(torch.exp(x - most), axes, keepdim=True)) + most
    shape = [length for axis, length in enumerate(x.shape) if axis not in axes]
    return total if keep else total.reshape(shape)


def _arg(make: Callable[..., torch.Tensor]) -> Convert:
    def convert(node: Node) -> torch.Tensor:
        x, axis, keep = node.tensor(0), node.axis(0), bool(node.attr("keepdims", 1))
        if not node.attr("select_last_index", 0):
            return make(x, dim=axis, keepdim=keep).to(torch.int32)
        # The last of equals is the first of them from behind.
        found = make(torch.flip(x, [axis]), dim=axis, keepdim=keep).to(torch.int32)
        return x.shape[axis] - 1 - found

    return convert


def _top(node: Node) -> tuple[torch.Tensor, torch.Tensor]:
    (count,) = node.integers(1, "k")
    x, axis, largest = node.tensor(0), node.axis(-1), bool(node.attr("largest", 1))
    x = x if largest else -x
    last = x.ndim - 1
    values, places = torch.topk(x.transpose(axis, last), count, dim=-1)
    values, places = values.transpose(axis, last), places.to(torch.int32).transpose(axis, last)
    return (values if largest else -values), places


def _cumulated(node: Node) -> torch.Tensor:
    (axis,) = node.integers(1, "axis")
    x, backwards = node.tensor(0), bool(node.attr("reverse", 0))
    axis %= x.ndim
    x = torch.flip(x, [axis]) if backwards else x
    total = torch.cumsum(x, axis, dtype=x.dtype)
    if node.attr("exclusive", 0):
        total = total - x
    return torch.flip(total, [axis]) if backwards else total


def _one_hot(node: Node) -> torch.Tensor:
    depth = node.integers(1, "depth")[0]
    indices, values = node.tensor(0).to(torch.int32), node.tensor(2)
    indices = torch.where(torch.lt(indices, 0), indices + depth, indices)
    axis = node.axis(-1, indices.ndim + 1)
    shape = [1] * (indices.ndim + 1)
    shape[axis] = depth
    hot = torch.eq(indices.unsqueeze(axis), torch.arange(depth, dtype=torch.int32).reshape(shape))
    if node.known(2):
        off, on = (as_tensor(item) for item in node.constant(2, "values"))
    else:
        off, on = values[0], values[1]
    return torch.where(hot, on, off)


OPERATORS: dict[str, Convert] = {
    "ReduceSum": _reduced(_same, _sum, _same), "ReduceMean": _reduced(_same, _mean, _same),
    "ReduceMax": _reduced(_same, _most, _same), "ReduceMin": _reduced(_same, _least, _same),
    "ReduceProd": _reduced(_same, _product, _same), "ReduceL1": _reduced(torch.abs, _sum, _same),
    "ReduceL2": _reduced(_squared, _sum, _root), "ReduceSumSquare": _reduced(_squared, _sum, _same),
    "ReduceLogSum": _reduced(_same, _sum, torch.log), "ReduceLogSumExp": _log_sum_exp,
    "ArgMax": _arg(torch.argmax), "ArgMin": _arg(torch.argmin), "TopK": _top, "CumSum": _cumulated,
    "OneHot": _one_hot,
}  # fmt: skip
