"""Resize in whichever way ONNX says it, as matrices.

Interpolation works along one axis at a time and is linear in the values, so that a matrix says it all; the
matrix comes from onnx's own reference, and is exact in every mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from converter.onnx_importing.node import Node

__all__ = ["Resampling", "resampling_of", "weights_along"]

_KEPT = (
    "mode", "coordinate_transformation_mode", "nearest_mode", "cubic_coeff_a", "exclude_outside", "antialias",
)  # fmt: skip
Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """What a Resize does to every axis."""

    scales: list[float]
    """As ONNX computes places with them."""
    sizes: list[int]
    """Of the result."""
    axes: list[int]
    """Those along which anything happens."""
    exact: bool
    """Whether all scales are ratios of lengths, as frameworks take them."""
    mode: str
    places: str
    """`coordinate_transformation_mode`."""
    antialias: bool

    @property
    def plain_image(self) -> bool:
        """Whether it resizes height and width alone, as operations of frameworks do."""
        return self.exact and set(self.axes) <= {2, 3} and len(self.sizes) == len("NCHW")


def resampling_of(node: Node) -> Resampling:
    """What a Resize asks for.

    Raises:
        OperatorRefusedError: A crop, or a policy that keeps the aspect ratio.
    """
    places = node.attr("coordinate_transformation_mode", "half_pixel")
    if places == "tf_crop_and_resize":
        node.refuse(f"coordinate_transformation_mode {places}")
    own = node.shape(0)
    scales, sizes = _factors(node)
    changed = {axis for axis, (before, after) in enumerate(zip(own, sizes, strict=True)) if before != after}
    inexact = {axis for axis, scale in enumerate(scales) if scale not in (1.0, sizes[axis] / own[axis])}
    return Resampling(
        scales=scales,
        sizes=sizes,
        axes=sorted(changed | inexact),
        exact=not inexact,
        mode=node.attr("mode", "nearest"),
        places=places,
        antialias=bool(node.attr("antialias", 0)),
    )


def weights_along(node: Node, resampling: Resampling, axis: int) -> Array:
    """Weights of [length after, length before] along an axis: the resize of each unit vector."""
    own, made, scale = node.shape(0)[axis], resampling.sizes[axis], resampling.scales[axis]
    attributes = {name: node.attr(name) for name in _KEPT if node.attr(name) is not None}
    by_size = np.float32(scale) == np.float32(made / own)
    given = np.array([made], np.int64) if by_size else np.array([scale], np.float32)
    inputs = ["x", "", "", "sizes"] if by_size else ["x", "", "scales"]
    resize = helper.make_node("Resize", inputs, ["y"], axes=[0], **attributes)
    reference = ReferenceEvaluator(_in_model(resize, inputs[-1], by_size=by_size))
    columns = [
        reference.run(None, {"x": unit, inputs[-1]: given})[0] for unit in np.eye(own, dtype=np.float32)
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _factors(node: Node) -> tuple[list[float], list[int]]:
    own = node.shape(0)
    axes = [axis % len(own) for axis in node.attr("axes", range(len(own)))]
    scales, sizes = [1.0] * len(own), list(own)
    given = node.constant(3, "sizes").reshape(-1) if node.has(3) else node.constant(2, "scales").reshape(-1)
    kept = _kept_ratio(node, [own[axis] for axis in axes], given)
    for axis, value in zip(axes, given if kept is None else kept, strict=True):
        if kept is not None:
            scales[axis], sizes[axis] = value, int(np.floor(value * own[axis] + 0.5))
        elif node.has(3):
            sizes[axis], scales[axis] = int(value), int(value) / own[axis]
        else:
            sizes[axis] = int(np.floor(np.float32(own[axis]) * np.float32(value)))
            exact = sizes[axis] / own[axis]
            scales[axis] = exact if np.float32(exact) == np.float32(value) else float(value)
    return scales, sizes


def _kept_ratio(node: Node, own: list[int], given: Any) -> list[float] | None:  # noqa: ANN401
    """One scale for all axes, where sizes are bounds that must keep the aspect ratio."""
    policy = node.attr("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch" or not node.has(3):
        return None
    ratios = [int(size) / length for size, length in zip(given, own, strict=True)]
    return [min(ratios) if policy == "not_larger" else max(ratios)] * len(own)


def _in_model(resize: Any, given: str, *, by_size: bool) -> Any:  # noqa: ANN401
    kind = TensorProto.INT64 if by_size else TensorProto.FLOAT
    graph = helper.make_graph(
        [resize],
        "resize",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
            helper.make_tensor_value_info(given, kind, [1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
