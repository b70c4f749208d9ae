"""Operators that pick values by place: slices, gathers, scatters.

Gathers and scatters of several axes go over one flattened axis, which is what TFLite has kernels for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from converter.onnx_importing.shapes import slices_of
from converter.onnx_to_torch.node import Convert, Node, as_tensor, is_bool, is_float

__all__ = ["OPERATORS"]

_TABLE = 2


def _slice(node: Node) -> torch.Tensor:
    x, taken = node.tensor(0), slices_of(node)
    turned = [axis for axis, item in enumerate(taken) if item.turned]
    for axis, item in enumerate(taken):
        if (item.begin, item.end, item.step) != (0, x.shape[axis], 1):
            x = x[(*[slice(None)] * axis, slice(item.begin, item.end, item.step))]
    return torch.flip(x, turned) if turned else x


def _places(node: Node, index: int, lengths: Sequence[int] | int) -> torch.Tensor:
    """Indices, none of them negative; `lengths` are of the axis, or of an axis a column."""
    if node.known(index):
        known = node.constant(index, "indices")
        return as_tensor(np.where(known < 0, known + np.asarray(lengths), known))
    indices = node.tensor(index)
    return torch.where(torch.lt(indices, 0), indices + as_tensor(np.asarray(lengths)), indices)


def _gather(node: Node) -> torch.Tensor:
    x, axis = node.tensor(0), node.axis(0)
    places = _places(node, 1, x.shape[axis])
    if axis == 0 and x.ndim == _TABLE and is_float(x):
        return functional.embedding(places, x)
    truth = is_bool(x)
    chosen = torch.index_select(x.to(torch.int32) if truth else x, axis, places.reshape(-1))
    chosen = chosen.reshape([*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]])
    return torch.ne(chosen, 0) if truth else chosen


def _flat_places(places: torch.Tensor, shape: Sequence[int], axis: int) -> torch.Tensor:
    """Where each element of `places`, indices along an axis of `shape`, lies in the flattened tensor."""
    steps = [math.prod(shape[place + 1 :]) for place in range(len(shape))]
    rest = np.zeros(tuple(places.shape), np.int64)
    for place, step in enumerate(steps):
        if place != axis:
            along = [-1 if other == place else 1 for other in range(len(shape))]
            rest = rest + np.arange(places.shape[place]).reshape(along) * step
    return places * steps[axis] + as_tensor(rest)


def _gather_elements(node: Node) -> torch.Tensor:
    x, axis = node.tensor(0), node.axis(0)
    places = _places(node, 1, x.shape[axis])
    flat = _flat_places(places, x.shape, axis)
    return torch.index_select(x.reshape(-1), 0, flat.reshape(-1)).reshape(places.shape)


def _rows(places: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Tuples of indices in the last axis as places along the axes they go over, taken as one."""
    steps = [math.prod(lengths[place + 1 :]) for place in range(len(lengths))]
    return torch.sum(places * as_tensor(np.array(steps)), -1, dtype=torch.int32)


def _gather_nd(node: Node) -> torch.Tensor:
    x, skipped = node.tensor(0), node.attr("batch_dims", 0)
    depth = node.shape(1)[-1]
    lengths = [int(length) for length in x.shape[skipped : skipped + depth]]
    rows = _rows(_places(node, 1, lengths), lengths)
    batches = math.prod(x.shape[:skipped])
    if skipped:
        first = np.arange(batches).reshape([*x.shape[:skipped], *[1] * (rows.ndim - skipped)])
        rows = rows + as_tensor(first * math.prod(lengths))
    rest = list(x.shape[skipped + depth :])
    chosen = torch.index_select(x.reshape([batches * math.prod(lengths), *rest]), 0, rows.reshape(-1))
    return chosen.reshape([*rows.shape, *rest])


def _reverse_sequence(node: Node) -> torch.Tensor:
    """Each sequence of a batch turned round up to its own, known length."""
    x, lengths = node.tensor(0), node.integers(1, "lengths")
    time, batch = node.attr("time_axis", 0) % x.ndim, node.attr("batch_axis", 1) % x.ndim
    if {time, batch} != {0, 1}:
        node.refuse(f"time_axis {time}, batch_axis {batch}")
    x = x if time == 0 else x.transpose(0, 1)
    steps, count = x.shape[0], x.shape[1]
    turned = [[length - 1 - at if at < length else at for length in lengths] for at in range(steps)]
    rows = np.array(turned) * count + np.arange(count)
    chosen = torch.index_select(x.reshape([steps * count, -1]), 0, as_tensor(rows.reshape(-1)))
    chosen = chosen.reshape(x.shape)
    return chosen if time == 0 else chosen.transpose(0, 1)


def _scattered(node: Node, data: torch.Tensor, places: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
    """Put rows of updates into rows of data."""
    node.only("reduction", "none", "none")  # LiteRT 2.3 loads no scatter that adds up or compares
    return torch.index_put(data, [places.long()], updates)


def _scatter_elements(node: Node) -> torch.Tensor:
    x, axis, updates = node.tensor(0), node.axis(0), node.tensor(2)
    places = _flat_places(_places(node, 1, x.shape[axis]), x.shape, axis)
    made = _scattered(node, x.reshape(-1), places.reshape(-1), updates.reshape(-1))
    return made.reshape(x.shape)


def _scatter_nd(node: Node) -> torch.Tensor:
    x, updates = node.tensor(0), node.tensor(2)
    depth = node.shape(1)[-1]
    lengths = [int(length) for length in x.shape[:depth]]
    rows = _rows(_places(node, 1, lengths), lengths).reshape(-1)
    rest = list(x.shape[depth:])
    flat = x.reshape([math.prod(lengths), *rest])
    return _scattered(node, flat, rows, updates.reshape([-1, *rest])).reshape(x.shape)


OPERATORS: dict[str, Convert] = {
    "Slice": _slice, "Gather": _gather, "GatherElements": _gather_elements, "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements, "ScatterND": _scatter_nd, "ReverseSequence": _reverse_sequence,
}  # fmt: skip
