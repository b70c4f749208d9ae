"""Operators that move values about: shapes, order of axes, joining and repeating."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from converter.onnx_importing.shapes import (
    flattened,
    padding_of,
    reshaped,
    sizes_of_parts,
    squeezed,
    unsqueezed,
)
from converter.onnx_to_torch.node import Convert, Node, as_tensor, computed_as, is_bool

__all__ = ["OPERATORS", "picked"]

Places = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
_IMAGE = 4
_MODES = ("reflect", "edge", "wrap")


def picked(x: torch.Tensor, axis: int, places: Places) -> torch.Tensor:
    """Known places along an axis, in that order."""
    return torch.index_select(x, axis, as_tensor(places.astype(np.int64)))


def _shaped(lengths: Callable[[Node], list[int]]) -> Convert:
    def convert(node: Node) -> torch.Tensor:
        return node.tensor(0).reshape(lengths(node))

    return convert


def _transpose(node: Node) -> torch.Tensor:
    x = node.tensor(0)
    return x.permute(list(node.attr("perm", list(reversed(range(x.ndim))))))


def _expand(node: Node) -> torch.Tensor:
    x = node.tensor(0)
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(node.integers(1, "lengths"))))


def _tile(node: Node) -> torch.Tensor:
    return node.tensor(0).repeat(node.integers(1, "repeats"))


def _concat(node: Node) -> torch.Tensor:
    values = [node.tensor(index) for index in range(len(node)) if 0 not in node.shape(index)]
    return torch.cat(values, node.axis(0))


def _split(node: Node) -> tuple[torch.Tensor, ...]:
    return tuple(torch.split(node.tensor(0), sizes_of_parts(node), node.axis(0)))


def _pad(node: Node) -> torch.Tensor:
    x, mode, pads = node.tensor(0), node.attr("mode", "constant"), padding_of(node)
    if mode == "constant":
        value = node.constant(2, "value").reshape(-1)[0] if node.has(2) else node.attr("value", 0)
        return _padded(x, pads, value)
    if mode not in _MODES:
        node.refuse(f"mode {mode}")
    for axis, pair in enumerate(pads):
        if any(pair):
            x = picked(x, axis, _places(x.shape[axis], pair, mode))
    return x


def _padded(x: torch.Tensor, pads: list[list[int]], value: float) -> torch.Tensor:
    for axis, (before, after) in enumerate(pads):  # what negative lengths cut away
        if before < 0 or after < 0:
            x = x.narrow(axis, max(0, -before), x.shape[axis] - max(0, -before) - max(0, -after))
    flat = [max(0, length) for pair in reversed(pads) for length in pair]
    if not any(flat):
        return x
    truth = is_bool(x)
    x = functional.pad(x.to(torch.int32) if truth else x, flat, value=float(value))
    return torch.ne(x, 0) if truth else x


def _places(length: int, pair: list[int], mode: str) -> Places:
    """Where each place of a padded axis comes from."""
    before, after = (max(0, size) for size in pair)
    places = np.pad(np.arange(length), (before, after), mode=mode)  # type: ignore[call-overload]
    return np.asarray(places[max(0, -pair[0]) : len(places) - max(0, -pair[1])], np.int64)


def _depth_to_space(node: Node) -> torch.Tensor:
    x, block = node.tensor(0), node.attr("blocksize")
    if x.ndim != _IMAGE:
        node.refuse(f"rank {x.ndim}")
    if node.attr("mode", "DCR") != "CRD":  # channels in another order make it the same
        channels = np.arange(x.shape[1]).reshape(block * block, -1).T.reshape(-1)
        x = picked(x, 1, channels)
    return functional.pixel_shuffle(x, block)


def _space_to_depth(node: Node) -> torch.Tensor:
    x, block = node.tensor(0), node.attr("blocksize")
    if x.ndim != _IMAGE:
        node.refuse(f"rank {x.ndim}")
    x = functional.pixel_unshuffle(x, block)
    return picked(x, 1, np.arange(x.shape[1]).reshape(-1, block * block).T.reshape(-1))


def _filled(node: Node) -> torch.Tensor:
    value = node.attr("value")
    fill = np.zeros(1, np.float32) if value is None else value
    return as_tensor(np.full(node.integers(0, "lengths"), fill.reshape(-1)[0]))


def _triangle(node: Node) -> torch.Tensor:
    x = node.tensor(0)
    shift = node.integers(1, "diagonal")[0] if node.has(1) else 0
    mask = np.ones(x.shape[-2:], bool)
    mask = np.triu(mask, shift) if node.attr("upper", 1) else np.tril(mask, shift)
    if is_bool(x):
        return torch.logical_and(x, as_tensor(mask))
    return torch.where(as_tensor(mask), x, torch.zeros([], dtype=x.dtype))


def _eye_like(node: Node) -> torch.Tensor:
    rows, columns = node.shape(0)
    return as_tensor(np.eye(rows, columns, node.attr("k", 0))).to(computed_as(node.stated[0].elem_type))


OPERATORS: dict[str, Convert] = {
    "Reshape": _shaped(reshaped), "Flatten": _shaped(flattened), "Squeeze": _shaped(squeezed),
    "Unsqueeze": _shaped(unsqueezed), "Transpose": _transpose, "Expand": _expand, "Tile": _tile,
    "Concat": _concat, "Split": _split, "Pad": _pad, "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth, "ConstantOfShape": _filled, "Trilu": _triangle,
    "EyeLike": _eye_like,
}  # fmt: skip
