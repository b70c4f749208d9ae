"""Convolution and pooling, padding always written out: ONNX has more ways to pad than MIL."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from converter.onnx_importing.windows import (
    PoolWindow,
    convolution_window,
    pool_window,
    spatial_of,
    transposed_window,
)
from converter.onnx_to_mil.node import Convert, Node, Value, dims, is_float, mb

__all__ = ["OPERATORS"]


def _flat(pads: Sequence[Sequence[int]]) -> list[int]:
    return [length for pair in pads for length in pair]


def _channels(x: Value, bias: Value) -> Value:
    """Add one number a channel, which an operation itself takes only where it is known."""
    return mb.add(x=x, y=mb.reshape(x=bias, shape=[1, -1] + [1] * (len(dims(x)) - 2)))


def _conv(node: Node) -> Value:
    weight = node.var(1)
    window = convolution_window(node, dims(weight)[2:])
    known = node.known(2)
    more = {"bias": node.var(2)} if known else {}
    made = mb.conv(
        x=node.var(0), weight=weight, strides=window.strides, dilations=window.dilations, pad_type="custom",
        pad=_flat(window.pads), groups=node.attr("group", 1), **more,
    )  # fmt: skip
    return _channels(made, node.var(2)) if node.has(2) and not known else made


def _conv_transpose(node: Node) -> Value:
    weight, spatial = node.constant(1, "weights").astype(np.float32), spatial_of(node)
    ones = [1] * len(spatial)
    strides, dilations = list(node.attr("strides", ones)), list(node.attr("dilations", ones))
    groups = node.attr("group", 1)
    full = [
        (length - 1) * stride + (size - 1) * dilation + 1
        for length, stride, size, dilation in zip(spatial, strides, weight.shape[2:], dilations, strict=True)
    ]
    begins, lengths = transposed_window(node, full, strides)
    ends = [end - begin - length for end, begin, length in zip(full, begins, lengths, strict=True)]
    made = mb.conv_transpose(
        x=node.var(0), weight=weight, strides=strides, dilations=dilations, groups=groups,
        pad_type="custom", pad=_flat(list(zip(begins, [max(0, end) for end in ends], strict=True))),
    )  # fmt: skip
    if min(ends) < 0:  # the output reaches past what the kernel covers: nothing but the bias is there
        made = mb.pad(
            x=made,
            pad=_flat([(0, max(0, -end)) for end in ends]),
            mode="constant",
            constant_val=np.float32(0),
        )
    return _channels(made, node.var(2)) if node.has(2) else made


def _undilated(node: Node) -> PoolWindow:
    window = pool_window(node)
    if max(window.dilations) > 1:
        node.refuse("dilations")
    return window


def _max_pool(node: Node) -> Value:
    if node.wanted(1):
        node.refuse("its indices are used")
    if not is_float(node.var(0)):
        node.refuse("whole numbers")
    window = _undilated(node)
    return mb.max_pool(
        x=node.var(0), kernel_sizes=window.kernel, strides=window.strides, pad_type="custom",
        pad=_flat(window.pads),
    )  # fmt: skip


def _average_pool(node: Node) -> Value:
    window = _undilated(node)
    counted = bool(node.attr("count_include_pad", 0))
    if counted and any(window.excess):
        node.refuse("count_include_pad with ceil_mode where the last window is cut")
    return mb.avg_pool(
        x=node.var(0), kernel_sizes=window.kernel, strides=window.strides, pad_type="custom",
        pad=_flat(window.pads), exclude_padding_from_average=not counted,
    )  # fmt: skip


def _lp_pool(node: Node) -> Value:
    node.only("p", 2, 2)
    window = _undilated(node)
    # By the mean of squares: `l2_pool` says nothing of padding.
    x = node.var(0)
    mean = mb.avg_pool(
        x=mb.mul(x=x, y=x), kernel_sizes=window.kernel, strides=window.strides, pad_type="custom",
        pad=_flat(window.pads), exclude_padding_from_average=False,
    )  # fmt: skip
    return mb.sqrt(x=mb.mul(x=mean, y=np.float32(math.prod(window.kernel))))


def _global(make: str) -> Convert:
    def convert(node: Node) -> Value:
        x = node.var(0)
        return getattr(mb, make)(x=x, axes=list(range(2, len(dims(x)))), keep_dims=True)

    return convert


OPERATORS: dict[str, Convert] = {
    "Conv": _conv, "ConvTranspose": _conv_transpose, "MaxPool": _max_pool, "AveragePool": _average_pool,
    "LpPool": _lp_pool, "GlobalAveragePool": _global("reduce_mean"), "GlobalMaxPool": _global("reduce_max"),
}  # fmt: skip
