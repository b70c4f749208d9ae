"""Padding and windows, as convolution and pooling share them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from converter.coreml_reference.arguments import Arguments
from converter.coreml_reference.datatypes import Array

__all__ = ["paddings", "windows"]


def paddings(
    a: Arguments, lengths: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Elements before and after each spatial axis.

    `same` pads so that ceil(length / stride) windows fit, the odd element last, or first for `same_lower`.
    MIL's prose gives another rule, of half the kernel on each side; its own shapes are those of this one,
    and TensorFlow's models, which it imports as `same`, are right by this one alone.

    Args:
        a: Holds `pad_type` and `pad`.
        lengths: Of the input's spatial axes.
        kernel: Lengths of the window, dilated.
        strides: Between windows.
    """
    pad_type = a.text("pad_type", "valid")
    if pad_type == "valid":
        return ((0, 0),) * len(lengths)
    if pad_type == "custom":
        pad = a.integers("pad", (0,) * (2 * len(lengths)))
        if len(pad) != 2 * len(lengths):
            raise ValueError(f"pad {list(pad)} for {len(lengths)} axes")
        return tuple(zip(pad[::2], pad[1::2], strict=True))
    if pad_type not in ("same", "same_lower"):
        raise a.unsupported(f"pad_type {pad_type}")
    found = []
    for length, extent, stride in zip(lengths, kernel, strides, strict=True):
        total = max(0, (-(-length // stride) - 1) * stride + extent - length)
        less, more = total // 2, total - total // 2
        found.append((less, more) if pad_type == "same" else (more, less))
    return tuple(found)


def windows(x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Array:
    """Every window of [n, c, *spatial] as a view [n, c, *places, *kernel]."""
    axes = tuple(range(2, x.ndim))
    extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(x, extent, axis=axes)
    places = tuple(slice(None, None, stride) for stride in strides)
    inner = tuple(slice(None, None, dilation) for dilation in dilations)
    return view[(slice(None), slice(None), *places, *inner)]
