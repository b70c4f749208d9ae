"""Operators that move values about: shapes, order of axes, joining and repeating."""

from __future__ import annotations

import math

import numpy as np

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


def _reshape(node: Node) -> Value:
    own, wanted = dims(node.var(0)), node.integers(1, "lengths")
    if not node.attr("allowzero", 0):
        wanted = [own[axis] if length == 0 else length for axis, length in enumerate(wanted)]
    if -1 in wanted:
        rest = math.prod(length for length in wanted if length != -1)
        wanted = [math.prod(own) // rest if length == -1 else length for length in wanted]
    return _to_shape(node.var(0), wanted)


def _flatten(node: Node) -> Value:
    own = dims(node.var(0))
    axis = node.attr("axis", 1)
    axis = axis + len(own) if axis < 0 else axis
    return _to_shape(node.var(0), [math.prod(own[:axis]), math.prod(own[axis:])])


def _squeeze(node: Node) -> Value:
    own = dims(node.var(0))
    axes = node.integers(1, "axes") if node.has(1) else node.attr("axes")
    if axes is None:
        axes = [axis for axis, length in enumerate(own) if length == 1]
    gone = {axis % len(own) for axis in axes}
    return _to_shape(node.var(0), [length for axis, length in enumerate(own) if axis not in gone])


def _unsqueeze(node: Node) -> Value:
    own = list(dims(node.var(0)))
    axes = node.integers(1, "axes") if node.has(1) else list(node.attr("axes"))
    for axis in sorted(axis % (len(own) + len(axes)) for axis in axes):
        own.insert(axis, 1)
    return _to_shape(node.var(0), own)


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
    axis = node.attr("axis", 0) % len(dims(x))
    if node.has(1):
        sizes = node.integers(1, "lengths")
    elif node.attr("split") is not None:
        sizes = list(node.attr("split"))
    else:
        count = node.attr("num_outputs") or len(node.outputs)
        each = -(-dims(x)[axis] // count)
        sizes = [each] * (count - 1) + [dims(x)[axis] - each * (count - 1)]
    if len(sizes) == 1:
        return mb.identity(x=x)
    if min(sizes) < 1:
        node.refuse("a part of no length")
    return mb.split(x=x, split_sizes=sizes, axis=axis)


def _pad(node: Node) -> Value:
    x, mode = node.var(0), node.attr("mode", "constant")
    own = dims(x)
    axes = node.integers(3, "axes") if node.has(3) else list(range(len(own)))
    given = node.integers(1, "lengths")
    pads = [[0, 0] for _ in own]
    for place, axis in enumerate(axes):
        pads[axis % len(own)] = [given[place], given[place + len(axes)]]
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
    "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
    "Transpose": _transpose, "Expand": _expand, "Tile": _tile, "Concat": _concat, "Split": _split,
    "Pad": _pad, "DepthToSpace": _depth_to_space, "SpaceToDepth": _space_to_depth,
    "ConstantOfShape": _filled, "Trilu": _triangle,
}  # fmt: skip
