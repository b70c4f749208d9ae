"""Resize, in whichever way ONNX says it: by an operation of MIL where one means the same, else exactly.

Interpolation works along one axis at a time and is linear in the values, so that a matrix says it all; the
matrix comes from onnx's own reference. Nearest neighbours are a gather. Both are exact in every mode.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from converter.onnx_to_mil.node import Convert, Node, Value, dims, mb

__all__ = ["OPERATORS"]

_IMAGE = 4
_SAMPLING = {
    "half_pixel": "UNALIGN_CORNERS",
    "align_corners": "STRICT_ALIGN_CORNERS",
    "asymmetric": "DEFAULT",
}


def _resize(node: Node) -> Value:
    x, mode = node.var(0), node.attr("mode", "nearest")
    ways = node.attr("coordinate_transformation_mode", "half_pixel")
    if ways == "tf_crop_and_resize":
        node.refuse(f"coordinate_transformation_mode {ways}")
    node.only("keep_aspect_ratio_policy", "stretch", "stretch")
    scales, sizes = _factors(node)
    changed = [axis for axis, (own, made) in enumerate(zip(dims(x), sizes, strict=True)) if own != made]
    inexact = [axis for axis, scale in enumerate(scales) if scale not in (1.0, sizes[axis] / dims(x)[axis])]
    if not changed and not inexact:
        return mb.identity(x=x)
    axes = sorted({*changed, *inexact})
    plain = not inexact and set(axes) <= {2, 3} and len(sizes) == _IMAGE
    if plain and mode == "linear" and ways in _SAMPLING and not node.attr("antialias", 0) and min(sizes) > 1:
        return mb.resize_bilinear(
            x=x, target_size_height=sizes[2], target_size_width=sizes[3], sampling_mode=_SAMPLING[ways]
        )
    for axis in axes:
        matrix = _matrix(node, dims(x)[axis], sizes[axis], scales[axis])
        nearest = mode == "nearest"
        x = (
            mb.gather(x=x, indices=matrix.argmax(axis=1).astype(np.int32), axis=axis)
            if nearest
            else _along(x, axis, matrix)
        )
    return x


def _factors(node: Node) -> tuple[list[float], list[int]]:
    """The scale of every axis as ONNX computes places with it, and the lengths of the result."""
    own = dims(node.var(0))
    axes = [axis % len(own) for axis in node.attr("axes", range(len(own)))]
    scales, sizes = [1.0] * len(own), list(own)
    given = node.constant(3, "sizes").reshape(-1) if node.has(3) else node.constant(2, "scales").reshape(-1)
    for axis, value in zip(axes, given, strict=True):
        if node.has(3):
            sizes[axis], scales[axis] = int(value), int(value) / own[axis]
        else:
            sizes[axis] = int(np.floor(np.float32(own[axis]) * np.float32(value)))
            exact = sizes[axis] / own[axis]
            scales[axis] = exact if np.float32(exact) == np.float32(value) else float(value)
    return scales, sizes


def _matrix(
    node: Node, own: int, made: int, scale: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Weights of [made, own]: the resize of each unit vector."""
    kept = (
        "mode",
        "coordinate_transformation_mode",
        "nearest_mode",
        "cubic_coeff_a",
        "exclude_outside",
        "antialias",
    )
    attributes = {name: node.attr(name) for name in kept if node.attr(name) is not None}
    by_size = np.float32(scale) == np.float32(made / own)
    inputs = ["x", "", "", "sizes"] if by_size else ["x", "", "scales"]
    resize = helper.make_node("Resize", inputs, ["y"], axes=[0], **attributes)
    graph = helper.make_graph(
        [resize],
        "resize",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
            helper.make_tensor_value_info(
                inputs[-1], TensorProto.INT64 if by_size else TensorProto.FLOAT, [1]
            ),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    given = np.array([made], np.int64) if by_size else np.array([scale], np.float32)
    columns = [
        ReferenceEvaluator(model).run(None, {"x": unit, inputs[-1]: given})[0]
        for unit in np.eye(own, dtype=np.float32)
    ]
    return np.stack(columns, axis=1).astype(np.float32)


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
