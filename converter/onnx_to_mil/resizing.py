"""Resize: by an operation of MIL where one means the same, else exactly, by matrices and gathers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from converter.onnx_importing.resampling import resampling_of, weights_along
from converter.onnx_to_mil.node import Convert, Node, Value, dims, mb

__all__ = ["OPERATORS"]

_SAMPLING = {
    "half_pixel": "UNALIGN_CORNERS",
    "align_corners": "STRICT_ALIGN_CORNERS",
    "asymmetric": "DEFAULT",
}


def _resize(node: Node) -> Value:
    x, wanted = node.var(0), resampling_of(node)
    if not wanted.axes:
        return mb.identity(x=x)
    bilinear = wanted.plain_image and wanted.mode == "linear" and wanted.places in _SAMPLING
    if bilinear and not wanted.antialias and min(wanted.sizes) > 1:
        return mb.resize_bilinear(
            x=x, target_size_height=wanted.sizes[2], target_size_width=wanted.sizes[3],
            sampling_mode=_SAMPLING[wanted.places],
        )  # fmt: skip
    for axis in wanted.axes:
        matrix = weights_along(node, wanted, axis)
        nearest = wanted.mode == "nearest"
        x = (
            mb.gather(x=x, indices=matrix.argmax(axis=1).astype(np.int32), axis=axis)
            if nearest
            else _along(x, axis, matrix)
        )
    return x


def _along(x: Value, axis: int, matrix: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Value:
    rank = len(dims(x))
    if axis == rank - 1:
        return mb.matmul(x=x, y=np.ascontiguousarray(matrix.T))
    order = _swapped(rank, axis)
    x = mb.transpose(x=x, perm=order)
    x = mb.matmul(x=x, y=np.ascontiguousarray(matrix.T))
    return mb.transpose(x=x, perm=order)


def _swapped(rank: int, axis: int) -> Sequence[int]:
    order = list(range(rank))
    order[axis], order[-1] = order[-1], order[axis]
    return order


OPERATORS: dict[str, Convert] = {"Resize": _resize}
