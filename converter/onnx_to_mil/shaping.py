"""Operators that move values about: shapes, order of axes, joining and repeating."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from converter.onnx_importing.shapes import (
    flattened,
    padding_of,
    reshaped,
    sizes_of_parts,
    squeezed,
    unsqueezed,
)
from converter.onnx_to_mil.elementwise import broadcast
from converter.onnx_to_mil.node import Convert, Node, Value, as_constant, dims, is_bool, is_float, mb

__all__ = ["OPERATORS"]

_IMAGE = 4


def _to_shape(value: Value, shape: list[int]) -> Value:
    """Reshape; a scalar is one element less an axis."""
    if list(dims(value)) == shape:
        return mb.identity(x=value)
    if not shape:
        value = value if len(dims(value)) == 1 else mb.reshape(x=value, shape=[1])
        return mb.squeeze(x=value, axes=[0])
    if not dims(value):
        value = mb.expand_dims(x=value, axes=[0])
    return mb.reshape(x=value, shape=shape)


def _shaped(lengths: Callable[[Node], list[int]]) -> Convert:
    def convert(node: Node) -> Value:
        return _to_shape(node.var(0), lengths(node))

    return convert


def _transpose(node: Node) -> Value:
    rank = len(dims(node.var(0)))
    return mb.transpose(x=node.var(0), perm=list(node.attr("perm", list(reversed(range(rank))))))


def _expand(node: Node) -> Value:
    shape = np.broadcast_shapes(dims(node.var(0)), tuple(node.integers(1, "lengths")))
    result = broadcast(node.value(0), shape)
    return mb.identity(x=result)


def _tile(node: Node) -> Value:
    return mb.tile(x=node.var(0), reps=node.integers(1, "repeats"))


def _concat(node: Node) -> Value:
    values = [node.var(index) for index in range(len(node)) if 0 not in dims(node.var(index))]
    return mb.concat(values=values, axis=node.attr("axis"))


def _split(node: Node) -> Value:
    x = node.var(0)
    sizes = sizes_of_parts(node)
    if len(sizes) == 1:
        return mb.identity(x=x)
    return mb.split(x=x, split_sizes=sizes, axis=node.axis(0))


def _pad(node: Node) -> Value:
    x, mode = node.var(0), node.attr("mode", "constant")
    own = dims(x)
    pads = padding_of(node)
    x = _cut(x, pads)
    pads = [[max(0, before), max(0, after)] for before, after in pads]
    if not any(map(any, pads)):
        return mb.identity(x=x)
    if mode == "constant":
        return _padded(node, x, pads)
    modes = {"reflect": "reflect", "edge": "replicate"}
    first = next(axis for axis, pair in enumerate(pads) if any(pair))
    if mode not in modes or not is_float(x):
        node.refuse(f"mode {mode}{'' if is_float(x) else ' of whole numbers'}")
    if first < len(own) - 2:
        node.refuse(f"mode {mode} beyond the last two axes")
    return mb.pad(x=x, pad=[length for pair in pads[first:] for length in pair], mode=modes[mode])


def _cut(x: Value, pads: list[list[int]]) -> Value:
    """What negative lengths cut away."""
    if min(length for pair in pads for length in pair) >= 0:
        return x
    begin = [max(0, -before) for before, _ in pads]
    end = [length - max(0, -after) for length, (_, after) in zip(dims(x), pads, strict=True)]
    return mb.slice_by_index(x=x, begin=begin, end=end)


def _padded(node: Node, x: Value, pads: list[list[int]]) -> Value:
    value = node.constant(2, "value").reshape(-1)[0] if node.has(2) else node.attr("value", 0)
    if is_float(x):
        first = next(axis for axis, pair in enumerate(pads) if any(pair))
        flat = [length for pair in pads[first:] for length in pair]
        return mb.pad(x=x, pad=flat, mode="constant", constant_val=np.float32(value))
    kind = np.bool_ if is_bool(x) else np.int32  # `pad` takes floats alone, and half floats round
    for axis, pair in enumerate(pads):
        shape = list(dims(x))
        ends: list[Value] = [
            np.full([*shape[:axis], length, *shape[axis + 1 :]], value, kind) for length in pair
        ]
        parts = [part for part in (ends[0], x, ends[1]) if 0 not in dims(part)]
        x = mb.concat(values=parts, axis=axis) if len(parts) > 1 else x
    return x


def _depth_to_space(node: Node) -> Value:
    x, block = node.var(0), node.attr("blocksize")
    if len(dims(x)) != _IMAGE:
        node.refuse(f"rank {len(dims(x))}")
    if node.attr("mode", "DCR") == "CRD":
        return mb.pixel_shuffle(x=x, upscale_factor=block)
    return mb.depth_to_space(x=x, block_size=block)


def _space_to_depth(node: Node) -> Value:
    return mb.space_to_depth(x=node.var(0), block_size=node.attr("blocksize"))


def _filled(node: Node) -> Value:
    value = node.attr("value")
    fill = np.zeros(1, np.float32) if value is None else value
    return mb.identity(x=as_constant(np.full(node.integers(0, "lengths"), fill.reshape(-1)[0])))


def _triangle(node: Node) -> Value:
    x = node.var(0)
    shift = node.integers(1, "diagonal")[0] if node.has(1) else 0
    mask = np.ones(dims(x)[-2:], bool)
    mask = np.triu(mask, shift) if node.attr("upper", 1) else np.tril(mask, shift)
    zero = np.float32(0) if is_float(x) else np.bool_(0) if is_bool(x) else np.int32(0)
    whole = np.ascontiguousarray(np.broadcast_to(mask, dims(x)))
    return mb.select(cond=whole, a=x, b=np.full(dims(x), zero))


OPERATORS: dict[str, Convert] = {
    "Reshape": _shaped(reshaped), "Flatten": _shaped(flattened), "Squeeze": _shaped(squeezed),
    "Unsqueeze": _shaped(unsqueezed),
    "Transpose": _transpose, "Expand": _expand, "Tile": _tile, "Concat": _concat, "Split": _split,
    "Pad": _pad, "DepthToSpace": _depth_to_space, "SpaceToDepth": _space_to_depth,
    "ConstantOfShape": _filled, "Trilu": _triangle,
}  # fmt: skip
