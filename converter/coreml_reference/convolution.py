"""Convolution and its transpose, over one to three spatial axes, grouped, strided and dilated."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from converter.coreml_reference.arguments import Arguments, Compute
from converter.coreml_reference.datatypes import Array
from converter.coreml_reference.windows import paddings, windows

__all__ = ["OPERATIONS"]


def _conv(a: Arguments) -> Array:
    x, weight = a["x"], a["weight"]
    rank = x.ndim - 2
    strides, dilations = a.integers("strides", (1,) * rank), a.integers("dilations", (1,) * rank)
    kernel, groups = weight.shape[2:], a.integer("groups", 1)
    extent = _dilated(kernel, dilations)
    pads = paddings(a, x.shape[2:], extent, strides)
    padded = np.pad(x, ((0, 0), (0, 0), *pads))
    view = windows(padded, kernel, strides, dilations)
    if x.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        raise ValueError(f"{x.shape[1]} channels in {groups} groups for weights {list(weight.shape)}")
    result = _depthwise(view, weight) if weight.shape[1] == 1 else _grouped(view, weight, groups)
    return result + _bias(a, rank)


def _grouped(view: Array, weight: Array, groups: int) -> Array:
    """One matrix product a group: [g, o/g, c/g · kernel] @ [n, g, c/g · kernel, places]."""
    batch, rank = view.shape[0], weight.ndim - 2
    places = view.shape[2 : 2 + rank]
    order = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    columns = view.transpose(order).reshape(batch, groups, -1, int(np.prod(places)))
    matrix = weight.reshape(groups, weight.shape[0] // groups, -1)
    return (matrix @ columns).reshape(batch, weight.shape[0], *places)


def _depthwise(view: Array, weight: Array) -> Array:
    """A channel a group: sums over the kernel's taps, as products of matrices so thin are slow."""
    batch, channels = view.shape[:2]
    kernel = weight.shape[2:]
    places = view.shape[2 : 2 + len(kernel)]
    taps = weight.reshape(channels, -1, *kernel)
    shape = (1, channels, weight.shape[0] // channels, *(1,) * len(kernel))
    result = np.zeros((batch, channels, weight.shape[0] // channels, *places))
    for tap in np.ndindex(*kernel):
        result += view[(..., *tap)][:, :, None] * taps[(..., *tap)].reshape(shape)
    return result.reshape(batch, weight.shape[0], *places)


def _conv_transpose(a: Arguments) -> Array:
    x, weight = a["x"], a["weight"]  # [n, c, *in], [c, o/groups, *kernel]
    rank = x.ndim - 2
    strides, dilations = a.integers("strides", (1,) * rank), a.integers("dilations", (1,) * rank)
    kernel, groups = weight.shape[2:], a.integer("groups", 1)
    extent = _dilated(kernel, dilations)
    full = [(n - 1) * s + e for n, s, e in zip(x.shape[2:], strides, extent, strict=True)]
    begins, lengths = _cropping(a, x.shape[2:], full, strides)
    batch, channels = x.shape[:2]
    grouped = x.reshape(batch, groups, channels // groups, -1)
    matrix = weight.reshape(groups, channels // groups, -1).swapaxes(1, 2)
    spread = (matrix @ grouped).reshape(batch, groups * weight.shape[1], *kernel, *x.shape[2:])
    canvas: Array = np.zeros(
        (
            *spread.shape[:2],
            *(max(f, b + length) for f, b, length in zip(full, begins, lengths, strict=True)),
        )
    )
    for tap in itertools.product(*map(range, kernel)):
        place: tuple[Any, ...] = tuple(
            slice(k * d, k * d + (n - 1) * s + 1, s)
            for k, d, n, s in zip(tap, dilations, x.shape[2:], strides, strict=True)
        )
        one: tuple[Any, ...] = (slice(None), slice(None), *tap)
        canvas[(..., *place)] += spread[one]
    cut: tuple[Any, ...] = tuple(slice(b, b + length) for b, length in zip(begins, lengths, strict=True))
    return np.asarray(canvas[(..., *cut)] + _bias(a, rank))


def _cropping(
    a: Arguments, lengths: Sequence[int], full: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where the output begins in all that is spread, and how long it is."""
    rank = len(lengths)
    pad_type = a.text("pad_type", "valid")
    wanted = a.integers("output_shape")[-rank:] if "output_shape" in a else None
    if pad_type == "same":
        wanted = wanted or tuple(n * s for n, s in zip(lengths, strides, strict=True))
        return tuple(max(0, f - w) // 2 for f, w in zip(full, wanted, strict=True)), wanted
    if pad_type not in ("valid", "custom"):
        raise a.unsupported(f"pad_type {pad_type}")
    pad = a.integers("pad", (0,) * (2 * rank)) if pad_type == "custom" else (0,) * (2 * rank)
    left = tuple(f - b - e for f, b, e in zip(full, pad[::2], pad[1::2], strict=True))
    return tuple(pad[::2]), wanted or left


def _dilated(kernel: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))


def _bias(a: Arguments, rank: int) -> Array:
    bias = a.optional("bias")
    return np.zeros(()) if bias is None else bias.reshape(-1, *(1,) * rank)


OPERATIONS: Mapping[str, Compute] = {"conv": _conv, "conv_transpose": _conv_transpose}
