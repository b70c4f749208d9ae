"""Reading from and writing to places of a tensor: slices, gathers, scatters, padding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from converter.coreml_reference.arguments import Arguments, Compute
from converter.coreml_reference.datatypes import Array

__all__ = ["OPERATIONS"]

_PAD_MODES = {"reflect": "reflect", "replicate": "edge"}
_WRITES: Mapping[str, Callable[[Array, Any, Array], None]] = {
    "add": np.add.at,
    "sub": np.subtract.at,
    "mul": np.multiply.at,
    "div": np.divide.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


def _slices(a: Arguments, rank: int) -> tuple[slice | int, ...]:
    begin, end = a.integers("begin"), a.integers("end")
    stride = a.integers("stride", (1,) * rank)
    from_start, to_end = a.flags("begin_mask", rank), a.flags("end_mask", rank)
    single = a.flags("squeeze_mask", rank)
    if not len(begin) == len(end) == len(stride) == rank:
        raise ValueError(f"a slice of {len(begin)} axes of a tensor of rank {rank}")
    return tuple(
        (0 if from_start[axis] else begin[axis])
        if single[axis]
        else slice(
            None if from_start[axis] else begin[axis], None if to_end[axis] else end[axis], stride[axis]
        )
        for axis in range(rank)
    )


def _slice_by_index(a: Arguments) -> Array:
    x = a["x"]
    result: Array = x[_slices(a, x.ndim)]
    return result


def _slice_update(a: Arguments) -> Array:
    x = a["x"].copy()
    x[_slices(a, x.ndim)] = a["update"]
    return x


def _slice_by_size(a: Arguments) -> Array:
    x = a["x"]
    places = []
    for length, begin, size in zip(x.shape, a.integers("begin"), a.integers("size"), strict=True):
        first = begin + length if begin < 0 else begin
        places.append(slice(first, length if size < 0 else first + size))
    return x[tuple(places)]


def _pad(a: Arguments) -> Array:
    x, pad, mode = a["x"], a.integers("pad"), a.text("mode", "constant")
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    if mode == "constant":
        value = a["constant_val"].item() if "constant_val" in a else 0
        return np.pad(x, pairs, constant_values=value)
    if mode not in _PAD_MODES:
        raise a.unsupported(f"mode {mode}")
    for (before, after), length in zip(pairs, x.shape, strict=True):
        if max(before, after) > length - (mode == "reflect"):
            raise ValueError(f"{mode} padding of {before} and {after} on an axis of {length}")
    return np.asarray(np.pad(x, pairs, mode=_PAD_MODES[mode]))  # type: ignore[call-overload]


def _crop(a: Arguments) -> Array:
    x, (top, bottom), (left, right) = a["x"], a.integers("crop_height"), a.integers("crop_width")
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


def _gather(a: Arguments) -> Array:
    x, indices = a["x"], a["indices"]
    axis, batch_dims = a.integer("axis", 0) % x.ndim, a.integer("batch_dims", 0)
    if not batch_dims:
        return np.take(x, indices, axis=axis)
    batch = x.shape[:batch_dims]
    rows = [np.take(x[place], indices[place], axis=axis - batch_dims) for place in np.ndindex(*batch)]
    return np.stack(rows).reshape(*batch, *rows[0].shape)


def _gather_along_axis(a: Arguments) -> Array:
    x, indices = a["x"], a["indices"]
    axis = a.integer("axis", 0)
    _check_places(indices, x.shape[axis])
    return np.take_along_axis(x, indices, axis)


def _gather_nd(a: Arguments) -> Array:
    x, indices = a["x"], a["indices"]
    batch_dims = a.integer("batch_dims", 0)
    if not batch_dims:
        result: Array = x[tuple(np.moveaxis(indices, -1, 0))]
        return result
    batch = x.shape[:batch_dims]
    rows = [x[place][tuple(np.moveaxis(indices[place], -1, 0))] for place in np.ndindex(*batch)]
    return np.stack(rows).reshape(*batch, *rows[0].shape)


def _scatter(a: Arguments) -> Array:
    data = a["data"].copy()
    axis = a.integer("axis", 0) % data.ndim
    return _written(a, data, (slice(None),) * axis + (a["indices"],))


def _scatter_along_axis(a: Arguments) -> Array:
    data, indices = a["data"].copy(), a["indices"]
    axis = a.integer("axis", 0) % data.ndim
    _check_places(indices, data.shape[axis])
    places: list[Array] = list(np.indices(indices.shape))
    places[axis] = indices
    return _written(a, data, tuple(places))


def _scatter_nd(a: Arguments) -> Array:
    return _written(a, a["data"].copy(), tuple(np.moveaxis(a["indices"], -1, 0)))


def _written(a: Arguments, data: Array, places: tuple[Any, ...]) -> Array:
    mode = a.text("mode", "add")
    if mode == "update":
        data[places] = a["updates"]
    elif mode in _WRITES:
        _WRITES[mode](data, places, a["updates"])
    else:
        raise a.unsupported(f"mode {mode}")
    return data


def _check_places(indices: Array, length: int) -> None:
    if indices.size and not (-length <= indices.min() and indices.max() < length):
        raise IndexError(f"an index lies beyond an axis of {length}")


OPERATIONS: Mapping[str, Compute] = {
    "crop": _crop,
    "gather": _gather,
    "gather_along_axis": _gather_along_axis,
    "gather_nd": _gather_nd,
    "pad": _pad,
    "scatter": _scatter,
    "scatter_along_axis": _scatter_along_axis,
    "scatter_nd": _scatter_nd,
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "slice_update": _slice_update,
}
