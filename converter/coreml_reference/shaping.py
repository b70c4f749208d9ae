"""Operations that move elements without changing them, and those that make tensors of nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from converter.coreml_reference.arguments import Arguments, Compute
from converter.coreml_reference.datatypes import Array

__all__ = ["OPERATIONS"]


def _reshape(a: Arguments) -> Array:
    x, wanted = a["x"], a.integers("shape")
    # Zero keeps the length of the input's axis at that place.
    return x.reshape([x.shape[axis] if length == 0 else length for axis, length in enumerate(wanted)])


def _reshape_like(a: Arguments) -> Array:
    wanted: list[int] = []
    parts = zip(a.many("ref_tensors"), a.many("begins"), a.many("ends"), a.many("end_masks"), strict=True)
    for tensor, begin, end, to_the_end in parts:
        last = None if to_the_end.item() else int(end.item())
        wanted.extend(tensor.shape[int(begin.item()) : last])
    return a["x"].reshape(wanted)


def _squeeze(a: Arguments) -> Array:
    x = a["x"]
    return np.squeeze(x, a.axes(x.ndim)) if "axes" in a else np.squeeze(x)


def _expand_dims(a: Arguments) -> Array:
    return np.expand_dims(a["x"], a.integers("axes"))


def _flatten2d(a: Arguments) -> Array:
    x, axis = a["x"], a.integer("axis", 1)
    return x.reshape(int(np.prod(x.shape[:axis], dtype=np.int64)), -1)


def _concat(a: Arguments) -> Array:
    values, axis = a.many("values"), a.integer("axis")
    if not a.flag("interleave"):
        return np.concatenate(values, axis)
    axis %= values[0].ndim
    shape = values[0].shape
    return np.stack(values, axis + 1).reshape(*shape[:axis], -1, *shape[axis + 1 :])


def _split(a: Arguments) -> tuple[Array, ...]:
    x, axis = a["x"], a.integer("axis")
    if "split_sizes" in a:
        cuts = np.cumsum(a.integers("split_sizes"))[:-1]
        return tuple(np.split(x, cuts, axis))
    return tuple(np.split(x, a.integer("num_splits"), axis))


def _reverse_sequence(a: Arguments) -> Array:
    batch_axis, seq_axis = a.integer("batch_axis", 0), a.integer("seq_axis", 0)
    x = np.moveaxis(a["x"], (batch_axis, seq_axis), (0, 1))
    result = x.copy()
    for row, length in enumerate(a.integers("lengths")):
        result[row, :length] = x[row, :length][::-1]
    return np.moveaxis(result, (0, 1), (batch_axis, seq_axis))


def _sliding_windows(a: Arguments) -> Array:
    x, size = a["x"], a.integer("size")
    axis = a.integer("axis") % x.ndim
    view = np.lib.stride_tricks.sliding_window_view(x, size, axis=axis)
    strided = view[(slice(None),) * axis + (slice(None, None, a.integer("stride", 1)),)]
    return np.moveaxis(strided, -1, axis + 1)


def _depth_to_space(a: Arguments) -> Array:
    x, block = a["x"], a.integer("block_size")
    n, c, h, w = x.shape
    parts = x.reshape(n, block, block, c // block**2, h, w)  # block first: TensorFlow's order
    return parts.transpose(0, 3, 4, 1, 5, 2).reshape(n, -1, h * block, w * block)


def _space_to_depth(a: Arguments) -> Array:
    x, block = a["x"], a.integer("block_size")
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // block, block, w // block, block)
    return parts.transpose(0, 3, 5, 1, 2, 4).reshape(n, -1, h // block, w // block)


def _pixel_shuffle(a: Arguments) -> Array:
    x, factor = a["x"], a.integer("upscale_factor")
    n, c, h, w = x.shape
    parts = x.reshape(n, c // factor**2, factor, factor, h, w)  # channel first: PyTorch's order
    return parts.transpose(0, 1, 4, 2, 5, 3).reshape(n, -1, h * factor, w * factor)


def _pixel_unshuffle(a: Arguments) -> Array:
    x, factor = a["x"], a.integer("downscale_factor")
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // factor, factor, w // factor, factor)
    return parts.transpose(0, 1, 3, 5, 2, 4).reshape(n, -1, h // factor, w // factor)


def _space_to_batch(a: Arguments) -> Array:
    (down, across), pads = a.integers("block_shape"), a["paddings"]
    x = np.pad(a["x"], ((0, 0), (0, 0), *pads.tolist()))
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // down, down, w // across, across)
    return parts.transpose(3, 5, 0, 1, 2, 4).reshape(-1, c, h // down, w // across)


def _batch_to_space(a: Arguments) -> Array:
    x, (down, across), crops = a["x"], a.integers("block_shape"), a["crops"]
    n, c, h, w = x.shape
    parts = x.reshape(down, across, n // (down * across), c, h, w)
    whole = parts.transpose(2, 3, 4, 0, 5, 1).reshape(-1, c, h * down, w * across)
    (top, bottom), (left, right) = crops.tolist()
    return whole[:, :, top : h * down - bottom, left : w * across - right]


def _one_hot(a: Arguments) -> Array:
    indices, size = a["indices"], a.integer("one_hot_vector_size")
    chosen = indices[..., None] == np.arange(size)
    on = a["on_value"] if "on_value" in a else np.int64(1)
    off = a["off_value"] if "off_value" in a else np.int64(0)
    axis = a.integer("axis", -1)
    return np.moveaxis(np.where(chosen, on, off), -1, axis)


def _band_part(a: Arguments) -> Array:
    x, lower, upper = a["x"], a.integer("lower", -1), a.integer("upper", -1)
    below = np.arange(x.shape[-2])[:, None] - np.arange(x.shape[-1])
    kept = ((lower < 0) | (below <= lower)) & ((upper < 0) | (-below <= upper))
    return np.where(kept, x, np.zeros((), x.dtype))


def _range(a: Arguments) -> Array:
    return np.arange(a["start"].item(), a["end"].item(), a["step"].item())


def _fill(a: Arguments) -> Array:
    return np.full(a.integers("shape"), a["value"].item() if "value" in a else 0.0)


def _fill_like(a: Arguments) -> Array:
    return np.full(a["ref_tensor"].shape, a["value"].item() if "value" in a else 0.0)


def _reverse(a: Arguments) -> Array:
    x = a["x"]
    return np.flip(x, a.axes(x.ndim))


OPERATIONS: Mapping[str, Compute] = {
    "band_part": _band_part,
    "batch_to_space": _batch_to_space,
    "concat": _concat,
    "depth_to_space": _depth_to_space,
    "expand_dims": _expand_dims,
    "fill": _fill,
    "fill_like": _fill_like,
    "flatten2d": _flatten2d,
    "non_zero": lambda a: np.argwhere(a["x"]),
    "one_hot": _one_hot,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "range_1d": _range,
    "reshape": _reshape,
    "reshape_like": _reshape_like,
    "reverse": _reverse,
    "reverse_sequence": _reverse_sequence,
    "shape": lambda a: np.array(a["x"].shape, dtype=np.int64),
    "sliding_windows": _sliding_windows,
    "space_to_batch": _space_to_batch,
    "space_to_depth": _space_to_depth,
    "split": _split,
    "squeeze": _squeeze,
    "stack": lambda a: np.stack(a.many("values"), a.integer("axis")),
    "tile": lambda a: np.tile(a["x"], a.integers("reps")),
    "transpose": lambda a: np.transpose(a["x"], a.integers("perm")),
}
