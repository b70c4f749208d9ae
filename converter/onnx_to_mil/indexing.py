"""Operators that pick values by place: slices, gathers, scatters."""

from __future__ import annotations

import numpy as np

from converter.onnx_importing.shapes import slices_of
from converter.onnx_to_mil.node import Convert, Node, Value, dims, is_bool, mb

__all__ = ["OPERATORS"]


def _slice(node: Node) -> Value:
    x = node.var(0)
    taken = slices_of(node)
    turned = [axis for axis, item in enumerate(taken) if item.turned]
    if not turned:
        begin, end = [item.begin for item in taken], [item.end for item in taken]
    else:  # turned round, it is a slice with a positive step
        x = mb.reverse(x=x, axes=turned)
        spans = [
            (length - item.end, length - item.begin) if item.turned else (item.begin, item.end)
            for item, length in zip(taken, dims(x), strict=True)
        ]
        begin, end = [low for low, _ in spans], [high for _, high in spans]
    return mb.slice_by_index(x=x, begin=begin, end=end, stride=[item.step for item in taken])


def _places(node: Node, index: int, length: int) -> Value:
    """Indices along an axis, none of them negative."""
    indices = node.var(index)
    if node.known(index):
        known = node.constant(index, "indices")
        return np.where(known < 0, known + length, known).astype(np.int32)[()]
    negative = mb.less(x=indices, y=np.int32(0))
    return mb.select(cond=negative, a=mb.add(x=indices, y=np.int32(length)), b=indices)


def _whole(x: Value) -> tuple[Value, bool]:
    """Truth values as whole numbers, which is what the gathers take, and whether they were."""
    truth = is_bool(x)
    return (mb.cast(x=x, dtype="int32") if truth else x), truth


def _back(x: Value, *, truth: bool) -> Value:
    return mb.cast(x=x, dtype="bool") if truth else x


def _gather(node: Node) -> Value:
    x, truth = _whole(node.var(0))
    axis = node.attr("axis", 0) % len(dims(x))
    places = _places(node, 1, dims(x)[axis])
    return _back(mb.gather(x=x, indices=places, axis=axis), truth=truth)


def _gather_elements(node: Node) -> Value:
    x, truth = _whole(node.var(0))
    axis = node.attr("axis", 0) % len(dims(x))
    places = _places(node, 1, dims(x)[axis])
    wanted = list(dims(places))
    wanted[axis] = dims(x)[axis]
    if tuple(wanted) != dims(x):  # ONNX lets indices cover a part of the other axes
        x = mb.slice_by_index(x=x, begin=[0] * len(wanted), end=wanted)
    return _back(mb.gather_along_axis(x=x, indices=places, axis=axis), truth=truth)


def _gather_nd(node: Node) -> Value:
    x, truth = _whole(node.var(0))
    skipped = node.attr("batch_dims", 0)
    places = node.var(1)
    depth = dims(places)[-1]
    lengths = np.array(dims(x)[skipped : skipped + depth], np.int32)
    if node.known(1):
        known = node.constant(1, "indices")
        places = np.where(known < 0, known + lengths, known).astype(np.int32)
    else:
        negative = mb.cast(x=mb.less(x=places, y=np.int32(0)), dtype="int32")
        places = mb.add(x=places, y=mb.mul(x=negative, y=lengths))
    return _back(mb.gather_nd(x=x, indices=places, batch_dims=skipped), truth=truth)


_MODES = {"none": "update", "add": "add", "mul": "mul", "max": "max", "min": "min"}


def _mode(node: Node) -> str:
    reduction = node.attr("reduction", "none")
    if reduction not in _MODES:
        node.refuse(f"reduction {reduction}")
    return _MODES[reduction]


def _scatter_elements(node: Node) -> Value:
    x = node.var(0)
    axis = node.attr("axis", 0) % len(dims(x))
    places = _places(node, 1, dims(x)[axis])
    if any(a != b for place, (a, b) in enumerate(zip(dims(places), dims(x), strict=True)) if place != axis):
        node.refuse("indices that cover a part of the other axes")
    return mb.scatter_along_axis(data=x, indices=places, updates=node.var(2), axis=axis, mode=_mode(node))


def _scatter_nd(node: Node) -> Value:
    x, places = node.var(0), node.var(1)
    lengths = np.array(dims(x)[: dims(places)[-1]], np.int32)
    if node.known(1):
        known = node.constant(1, "indices")
        places = np.where(known < 0, known + lengths, known).astype(np.int32)
    else:
        negative = mb.cast(x=mb.less(x=places, y=np.int32(0)), dtype="int32")
        places = mb.add(x=places, y=mb.mul(x=negative, y=lengths))
    return mb.scatter_nd(data=x, indices=places, updates=node.var(2), mode=_mode(node))


OPERATORS: dict[str, Convert] = {
    "Slice": _slice, "Gather": _gather, "GatherElements": _gather_elements, "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements, "ScatterND": _scatter_nd,
}  # fmt: skip
