"""Convolution and pooling.

Padding that is the same on both sides is left to the operation, any other is written out. Poolings that no
operation of TFLite computes, dilated ones and those of volumes, are put together from slices.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from converter.onnx_importing.quantization import RANGES
from converter.onnx_importing.windows import (
    PoolWindow,
    Window,
    convolution_window,
    pool_window,
    spatial_of,
    transposed_window,
)
from converter.onnx_to_torch.node import Convert, Node, as_tensor, is_float

__all__ = ["OPERATORS"]

_PLANE = 2
_CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)
_TRANSPOSED = (functional.conv_transpose1d, functional.conv_transpose2d)


def _flat(pads: Sequence[Sequence[int]]) -> list[int]:
    """As PyTorch takes them: the last axis first."""
    return [length for pair in reversed(pads) for length in pair]


def _filled(x: torch.Tensor, pads: Sequence[Sequence[int]], value: float) -> torch.Tensor:
    return functional.pad(x, _flat(pads), value=value) if any(map(any, pads)) else x


def _even(window: Window) -> list[int] | None:
    """Padding that is the same on both sides."""
    return [pair[0] for pair in window.pads] if all(a == b for a, b in window.pads) else None


def _conv(node: Node) -> torch.Tensor:
    x, weight = node.tensor(0), node.tensor(1)
    window = convolution_window(node, weight.shape[2:])
    even = _even(window)
    if even is None:
        x, even = _filled(x, window.pads, 0.0), [0] * len(window.pads)
    bias = node.tensor(2) if node.has(2) else None
    make = _CONVOLUTIONS[len(even) - 1]
    result: torch.Tensor = make(
        x, weight, bias, window.strides, even, window.dilations, node.attr("group", 1)
    )
    return result


def _conv_transpose(node: Node) -> torch.Tensor:
    x, weight, spatial = node.tensor(0), node.tensor(1), spatial_of(node)
    ones = [1] * len(spatial)
    strides, dilations = list(node.attr("strides", ones)), list(node.attr("dilations", ones))
    full = [
        (length - 1) * stride + (size - 1) * dilation + 1
        for length, stride, size, dilation in zip(spatial, strides, weight.shape[2:], dilations, strict=True)
    ]
    begins, lengths = transposed_window(node, full, strides)
    if len(spatial) > _PLANE:
        node.refuse("three spatial dimensions")  # litert_torch 0.10 crashes at it
    make: Any = _TRANSPOSED[len(spatial) - 1]
    made = make(x, weight, None, strides, 0, 0, node.attr("group", 1), dilations)
    # The whole result, and then its part: so that nothing depends on how an operation reads padding.
    pads = [
        [-begin, begin + length - size] for begin, length, size in zip(begins, lengths, full, strict=True)
    ]
    for axis, (before, after) in enumerate(pads):
        made = made.narrow(axis + 2, -before, full[axis] + before + min(after, 0))
    made = _filled(made, [[0, max(0, after)] for _, after in pads], 0.0)
    return made + node.tensor(2).reshape([-1, *ones]) if node.has(2) else made


def _max_pool(node: Node) -> torch.Tensor:
    if node.wanted(1):
        node.refuse("its indices are used")
    x, window = node.tensor(0), pool_window(node)
    if not is_float(x):
        if node.stated[0].elem_type not in RANGES:
            node.refuse("whole numbers of more than 16 bits")
        return _pooled_maximum(x.to(torch.float32), window).to(torch.int32)  # floats hold them exactly
    return _pooled_maximum(x, window)


def _pooled_maximum(x: torch.Tensor, window: PoolWindow) -> torch.Tensor:
    even = _even(window) or window.kernel
    if _is_plane(window) and all(2 * pad <= size for pad, size in zip(even, window.kernel, strict=True)):
        return functional.max_pool2d(x, window.kernel, window.strides, even)
    x = _filled(x, window.pads, float("-inf"))
    if _is_plane(window):
        return functional.max_pool2d(x, window.kernel, window.strides)
    joined: torch.Tensor = _by_slices(x, window, torch.maximum)
    return joined


def _is_plane(window: Window) -> bool:
    """Whether TFLite has an operation for pooling over it."""
    return len(window.kernel) == _PLANE and max(window.dilations) == 1


def _average_pool(node: Node) -> torch.Tensor:
    window = pool_window(node)
    mean, size = _mean(node.tensor(0), window), math.prod(window.kernel)
    counts = _counts(node.shape(0), window, counted=bool(node.attr("count_include_pad", 0)))
    return mean if counts.min() == size else mean * as_tensor(size / counts)


def _mean(x: torch.Tensor, window: PoolWindow) -> torch.Tensor:
    """The mean of each window, zeros where there is padding."""
    x = _filled(x, window.pads, 0.0)
    if _is_plane(window):
        return functional.avg_pool2d(x, window.kernel, window.strides)
    total: torch.Tensor = _by_slices(x, window, torch.add)
    return total * (1 / math.prod(window.kernel))


def _counts(shape: Sequence[int], window: PoolWindow, *, counted: bool) -> Any:  # noqa: ANN401
    """How many places of each window count, shaped to go with the result."""
    lengths, spans = [], []
    for length, (before, after), excess in zip(shape[2:], window.pads, window.excess, strict=True):
        lengths.append(before + length + after)
        spans.append(slice(0, lengths[-1] - excess) if counted else slice(before, before + length))
    inside = np.zeros([1, 1, *lengths], np.float32)
    inside[(slice(None), slice(None), *spans)] = 1
    return _by_slices(inside, window, np.add)


def _by_slices(x: Any, window: Window, join: Callable[[Any, Any], Any]) -> Any:  # noqa: ANN401
    """Join what each place of the kernel sees; `x` is padded already."""
    places = [
        [slice(at * dilation, length - (size - 1 - at) * dilation, stride) for at in range(size)]
        for length, size, stride, dilation in zip(
            x.shape[2:], window.kernel, window.strides, window.dilations, strict=True
        )
    ]
    seen = [x[(slice(None), slice(None), *chosen)] for chosen in itertools.product(*places)]
    result = seen[0]
    for item in seen[1:]:
        result = join(result, item)
    return result


def _lp_pool(node: Node) -> torch.Tensor:
    window, power = pool_window(node), node.attr("p", 2)
    mean = _mean(_power(torch.abs(node.tensor(0)), power), window)
    return _root(mean * float(math.prod(window.kernel)), power)


def _power(x: torch.Tensor, power: int) -> torch.Tensor:
    return x * x if power == 2 else torch.pow(x, float(power))  # noqa: PLR2004 - a square


def _root(x: torch.Tensor, power: int) -> torch.Tensor:
    return torch.sqrt(x) if power == 2 else torch.pow(x, 1 / power)  # noqa: PLR2004 - a square


def _spatial_axes(x: torch.Tensor) -> list[int]:
    return list(range(2, x.ndim))


def _global_average(node: Node) -> torch.Tensor:
    x = node.tensor(0)
    return torch.mean(x, _spatial_axes(x), keepdim=True)


def _global_max(node: Node) -> torch.Tensor:
    x = node.tensor(0)
    return torch.amax(x, _spatial_axes(x), keepdim=True)


def _global_lp(node: Node) -> torch.Tensor:
    x, power = torch.abs(node.tensor(0)), node.attr("p", 2)
    return _root(torch.sum(_power(x, power), _spatial_axes(x), keepdim=True), power)


OPERATORS: dict[str, Convert] = {
    "Conv": _conv, "ConvTranspose": _conv_transpose, "MaxPool": _max_pool, "AveragePool": _average_pool,
    "LpPool": _lp_pool, "GlobalAveragePool": _global_average, "GlobalMaxPool": _global_max,
    "GlobalLpPool": _global_lp,
}  # fmt: skip
