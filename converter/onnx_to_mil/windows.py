"""Convolution and pooling, padding always written out: ONNX has more ways to pad than MIL."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from converter.onnx_to_mil.node import Convert, Node, Value, dims, is_float, mb

__all__ = ["OPERATORS"]

_SPATIAL = (1, 2, 3)


def _spatial(node: Node) -> tuple[int, ...]:
    spatial = dims(node.var(0))[2:]
    if len(spatial) not in _SPATIAL:
        node.refuse(f"{len(spatial)} spatial dimensions")
    return spatial


def _pads(
    node: Node, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[list[int]]:
    """Begin and end of each dimension."""
    spatial, auto = _spatial(node), node.attr("auto_pad", "NOTSET")
    if auto == "NOTSET":
        given = list(node.attr("pads", [0] * (2 * len(spatial))))
        if min(given) < 0:
            node.refuse("negative pads")
        return [[given[axis], given[axis + len(spatial)]] for axis in range(len(spatial))]
    if auto == "VALID":
        return [[0, 0] for _ in spatial]
    pads = []
    for length, size, stride, dilation in zip(spatial, kernel, strides, dilations, strict=True):
        steps = -(-length // stride)
        total = max(0, (steps - 1) * stride + (size - 1) * dilation + 1 - length)
        small, large = total // 2, total - total // 2
        pads.append([small, large] if auto == "SAME_UPPER" else [large, small])
    return pads


def _flat(pads: Sequence[Sequence[int]]) -> list[int]:
    return [length for pair in pads for length in pair]


def _channels(x: Value, bias: Value) -> Value:
    """Add one number a channel, which an operation itself takes only where it is known."""
    return mb.add(x=x, y=mb.reshape(x=bias, shape=[1, -1] + [1] * (len(dims(x)) - 2)))


def _conv(node: Node) -> Value:
    weight = node.var(1)
    ones = [1] * len(_spatial(node))
    strides, dilations = list(node.attr("strides", ones)), list(node.attr("dilations", ones))
    pads = _pads(node, dims(weight)[2:], strides, dilations)
    known = node.known(2)
    more = {"bias": node.var(2)} if known else {}
    made = mb.conv(
        x=node.var(0), weight=weight, strides=strides, dilations=dilations, pad_type="custom",
        pad=_flat(pads), groups=node.attr("group", 1), **more,
    )  # fmt: skip
    return _channels(made, node.var(2)) if node.has(2) and not known else made


def _conv_transpose(node: Node) -> Value:
    weight, spatial = node.constant(1, "weights").astype(np.float32), _spatial(node)
    ones = [1] * len(spatial)
    strides, dilations = list(node.attr("strides", ones)), list(node.attr("dilations", ones))
    groups = node.attr("group", 1)
    full = [
        (length - 1) * stride + (size - 1) * dilation + 1
        for length, stride, size, dilation in zip(spatial, strides, weight.shape[2:], dilations, strict=True)
    ]
    begins, lengths = _transposed_window(node, full, strides)
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


def _transposed_window(
    node: Node, full: Sequence[int], strides: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Which part of the full result is the output: begins and lengths."""
    count = len(full)
    extra = list(node.attr("output_padding", [0] * count))
    wanted, auto = node.attr("output_shape"), node.attr("auto_pad", "NOTSET")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [length * stride for length, stride in zip(_spatial(node), strides, strict=True)]
    if wanted is None:
        pads = list(node.attr("pads", [0] * (2 * count)))
        begins = pads[:count]
        ends = pads[count:]
        lengths = [
            size + more - begin - end
            for size, more, begin, end in zip(full, extra, begins, ends, strict=True)
        ]
        return begins, lengths
    lengths = [int(length) for length in wanted][-count:]
    totals = [size + more - length for size, more, length in zip(full, extra, lengths, strict=True)]
    if min(totals) < 0:
        node.refuse("an output_shape beyond what the kernel covers")
    begins = [total // 2 if auto == "SAME_UPPER" else total - total // 2 for total in totals]
    return begins, lengths


def _pool_window(node: Node) -> tuple[list[int], list[int], list[list[int]], bool]:
    """Kernel, strides, pads with what rounding up adds, and whether it added any."""
    spatial = _spatial(node)
    kernel, ones = list(node.attr("kernel_shape")), [1] * len(spatial)
    strides, dilations = list(node.attr("strides", ones)), list(node.attr("dilations", ones))
    if dilations != ones:
        node.refuse("dilations")
    pads = _pads(node, kernel, strides, dilations)
    grown = False
    if node.attr("ceil_mode", 0):
        for length, size, stride, pad in zip(spatial, kernel, strides, pads, strict=True):
            covered = length + sum(pad)
            steps = math.ceil((covered - size) / stride) + 1
            if (steps - 1) * stride >= length + pad[0]:  # a window may not begin in the padding at the end
                steps -= 1
            lacking = (steps - 1) * stride + size - covered
            grown |= lacking > 0
            pad[1] += max(0, lacking)
    return kernel, strides, pads, grown


def _max_pool(node: Node) -> Value:
    if node.wanted(1):
        node.refuse("its indices are used")
    if not is_float(node.var(0)):
        node.refuse("whole numbers")
    kernel, strides, pads, _ = _pool_window(node)
    x = node.var(0)
    return mb.max_pool(x=x, kernel_sizes=kernel, strides=strides, pad_type="custom", pad=_flat(pads))


def _average_pool(node: Node) -> Value:
    kernel, strides, pads, grown = _pool_window(node)
    counted = bool(node.attr("count_include_pad", 0))
    if counted and grown:
        node.refuse("count_include_pad with ceil_mode where the last window is cut")
    return mb.avg_pool(
        x=node.var(0), kernel_sizes=kernel, strides=strides, pad_type="custom", pad=_flat(pads),
        exclude_padding_from_average=not counted,
    )  # fmt: skip


def _lp_pool(node: Node) -> Value:
    node.only("p", 2, 2)
    kernel, strides, pads, _ = _pool_window(node)
    # By the mean of squares: `l2_pool` says nothing of padding.
    x = node.var(0)
    mean = mb.avg_pool(
        x=mb.mul(x=x, y=x), kernel_sizes=kernel, strides=strides, pad_type="custom", pad=_flat(pads),
        exclude_padding_from_average=False,
    )  # fmt: skip
    return mb.sqrt(x=mb.mul(x=mean, y=np.float32(math.prod(kernel))))


def _global(make: str) -> Convert:
    def convert(node: Node) -> Value:
        x = node.var(0)
        return getattr(mb, make)(x=x, axes=list(range(2, len(dims(x)))), keep_dims=True)

    return convert


OPERATORS: dict[str, Convert] = {
    "Conv": _conv, "ConvTranspose": _conv_transpose, "MaxPool": _max_pool, "AveragePool": _average_pool,
    "LpPool": _lp_pool, "GlobalAveragePool": _global("reduce_mean"), "GlobalMaxPool": _global("reduce_max"),
}  # fmt: skip
