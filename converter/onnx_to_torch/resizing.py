"""Resize and GridSample.

Resize goes by TFLite's bilinear operation where one means the same, else exactly, by matrices and gathers.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from converter.onnx_importing.resampling import Resampling, resampling_of, weights_along
from converter.onnx_to_torch.node import Convert, Node, as_tensor
from converter.onnx_to_torch.shaping import picked

__all__ = ["OPERATORS"]

_SAMPLING = {"linear": "bilinear", "cubic": "bicubic"}
"""What PyTorch calls by the names ONNX had up to opset 19."""


def _resize(node: Node) -> torch.Tensor:
    x, wanted = node.tensor(0), resampling_of(node)
    if wanted.axes and _is_bilinear(wanted):
        corners = wanted.places == "align_corners"
        return functional.interpolate(x, wanted.sizes[2:], mode="bilinear", align_corners=corners)
    for axis in wanted.axes:
        matrix = weights_along(node, wanted, axis)
        if wanted.mode == "nearest":
            x = picked(x, axis, matrix.argmax(axis=1).astype(np.int64))
        else:
            x = functional.linear(x.transpose(axis, -1), as_tensor(matrix)).transpose(axis, -1)
    return x


def _is_bilinear(wanted: Resampling) -> bool:
    """Whether it is what RESIZE_BILINEAR computes."""
    plain = wanted.plain_image and wanted.mode == "linear" and not wanted.antialias
    return plain and wanted.places in ("half_pixel", "align_corners") and min(wanted.sizes[2:]) > 1


def _grid_sample(node: Node) -> torch.Tensor:
    x, grid = node.tensor(0), node.tensor(1)
    mode, padding = node.attr("mode", "linear"), node.attr("padding_mode", "zeros")
    if x.ndim != len("NCHW"):
        node.refuse(f"{x.ndim - 2} spatial dimensions")
    if padding == "reflection":
        node.refuse(f"padding_mode {padding}")
    corners = bool(node.attr("align_corners", 0))
    return functional.grid_sample(x, grid, _SAMPLING.get(mode, mode), padding, corners)


OPERATORS: dict[str, Convert] = {"Resize": _resize, "GridSample": _grid_sample}
