"""Windows of convolution and pooling: ONNX has more ways to pad than any framework."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from converter.onnx_importing.node import Node

__all__ = ["PoolWindow", "Window", "convolution_window", "pool_window", "spatial_of", "transposed_window"]

_SPATIAL = (1, 2, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Where a kernel goes, one entry a spatial dimension."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[list[int]]
    """Begin and end of each dimension, none negative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolWindow(Window):
    """A window that may reach past what is padded."""

    excess: list[int]
    """What rounding up adds behind the padding at the end; it is part of `pads`."""


def spatial_of(node: Node) -> tuple[int, ...]:
    """The lengths of the spatial dimensions.

    Raises:
        OperatorRefusedError: There are none, or more than three.
    """
    spatial = node.shape(0)[2:]
    if len(spatial) not in _SPATIAL:
        node.refuse(f"{len(spatial)} spatial dimensions")
    return spatial


def convolution_window(node: Node, kernel: Sequence[int]) -> Window:
    """Strides, dilations and padding of a kernel.

    Raises:
        OperatorRefusedError: Negative pads.
    """
    ones = [1] * len(spatial_of(node))
    strides, dilations = list(node.attr("strides", ones)), list(node.attr("dilations", ones))
    pads = _pads(node, kernel, strides, dilations)
    return Window(kernel=list(kernel), strides=strides, dilations=dilations, pads=pads)


def pool_window(node: Node) -> PoolWindow:
    """The same of a pooling operator, with what rounding up adds to the padding.

    Raises:
        OperatorRefusedError: Negative pads.
    """
    window = convolution_window(node, node.attr("kernel_shape"))
    excess = [0] * len(window.kernel)
    if node.attr("ceil_mode", 0):
        for axis, length in enumerate(spatial_of(node)):
            pad, stride = window.pads[axis], window.strides[axis]
            size = (window.kernel[axis] - 1) * window.dilations[axis] + 1
            covered = length + sum(pad)
            steps = math.ceil((covered - size) / stride) + 1
            if (steps - 1) * stride >= length + pad[0]:  # a window may not begin in the padding at the end
                steps -= 1
            excess[axis] = max(0, (steps - 1) * stride + size - covered)
            pad[1] += excess[axis]
    return PoolWindow(
        kernel=window.kernel, strides=window.strides, dilations=window.dilations, pads=window.pads,
        excess=excess,
    )  # fmt: skip


def transposed_window(node: Node, full: Sequence[int], strides: Sequence[int]) -> tuple[list[int], list[int]]:
    """Which part of a transposed convolution's full result is the output: begins and lengths.

    Raises:
        OperatorRefusedError: An output_shape beyond what the kernel covers.
    """
    count = len(full)
    extra = list(node.attr("output_padding", [0] * count))
    wanted, auto = node.attr("output_shape"), node.attr("auto_pad", "NOTSET")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [length * stride for length, stride in zip(spatial_of(node), strides, strict=True)]
    if wanted is None:
        pads = list(node.attr("pads", [0] * (2 * count)))
        begins, ends = pads[:count], pads[count:]
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


def _pads(
    node: Node, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[list[int]]:
    spatial, auto = spatial_of(node), node.attr("auto_pad", "NOTSET")
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
