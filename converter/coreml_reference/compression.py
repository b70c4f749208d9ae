"""Weights kept small: quantized, palettized, sparse; and the quantization of activations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from converter.coreml_reference.arguments import Arguments, Compute
from converter.coreml_reference.datatypes import Array, ElementType, unpacked

__all__ = ["OPERATIONS"]

_INDEX_TYPES = {
    1: ElementType.UINT1, 2: ElementType.UINT2, 3: ElementType.UINT3, 4: ElementType.UINT4,
    6: ElementType.UINT6, 8: ElementType.UINT8,
}  # fmt: skip
_RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int4": (-8, 7), "uint4": (0, 15)}


def _affine(a: Arguments) -> Array:
    return _dequantized(a, a["quantized_data"], a.integer("axis"))


def _dequantize(a: Arguments) -> Array:
    return _dequantized(a, a["input"], a.integer("axis", 0))


def _quantize(a: Arguments) -> Array:
    x, axis, kind = a["input"], a.integer("axis", 0), a.text("output_dtype")
    if kind not in _RANGES:
        raise a.unsupported(f"output_dtype {kind}")
    low, high = _RANGES[kind]
    steps = np.rint(x / _along(a["scale"], x, axis)) + _zero_point(a, x, axis)
    return np.asarray(np.clip(steps, low, high))


def _dequantized(a: Arguments, data: Array, axis: int) -> Array:
    return (data - _zero_point(a, data, axis)) * _along(a["scale"], data, axis)


def _zero_point(a: Arguments, data: Array, axis: int) -> Array:
    zero_point = a.optional("zero_point")
    return np.zeros(()) if zero_point is None else _along(zero_point, data, axis)


def _along(vector: Array, data: Array, axis: int) -> Array:
    """A vector as it lies along one axis of the data; a scalar as it is."""
    if vector.ndim == 0 or vector.size == 1:
        return vector.reshape(())
    shape = [1] * data.ndim
    shape[axis] = -1
    return vector.reshape(shape)


def _shift_scale(data: Array, scale: Array, offset: Array | None) -> Array:
    scale = _in_blocks(scale, data.shape)
    return (data if offset is None else data - _in_blocks(offset, data.shape)) * scale


def _in_blocks(values: Array, shape: tuple[int, ...]) -> Array:
    """Each value repeated over its block."""
    for axis, (length, blocks) in enumerate(zip(shape, values.shape, strict=True)):
        if length % blocks:
            raise ValueError(f"{blocks} blocks along an axis of {length}")
        values = np.repeat(values, length // blocks, axis)
    return values


def _blockwise(a: Arguments) -> Array:
    return _shift_scale(a["data"], a["scale"], a.optional("offset"))


def _sparse_blockwise(a: Arguments) -> tuple[Array, Array]:
    mask = a["data_mask"].astype(bool)
    dense = _shift_scale(_dense(mask, a["nonzero_data"]), a["scale"], a.optional("offset"))
    return a["data_mask"], dense[mask]


def _lut_to_dense(a: Arguments) -> Array:
    lut = a["lut"]
    if "shape" not in a:
        return _looked_up(a, a["indices"], lut)
    bits, shape = int(lut.size - 1).bit_length(), a.integers("shape")
    if bits not in _INDEX_TYPES or lut.size != 1 << bits:
        raise ValueError(f"a palette of {lut.size}")
    packed = a["indices"].astype(np.uint8).tobytes()
    result: Array = lut[unpacked(packed, _INDEX_TYPES[bits], int(np.prod(shape)))].reshape(shape)
    return result


def _looked_up(a: Arguments, indices: Array, lut: Array) -> Array:
    """Entries of the palette of each element's group, laid out along the vectors' axis."""
    groups, vector = lut.shape[:-2], lut.shape[-1]
    if len(groups) != indices.ndim:
        raise ValueError(f"a palette of rank {lut.ndim} for indices of rank {indices.ndim}")
    places = np.indices(indices.shape)
    own = tuple(
        place // (length // count) for place, length, count in zip(places, indices.shape, groups, strict=True)
    )
    entries = lut[(*own, indices)]
    if vector == 1:
        result: Array = entries[..., 0]
        return result
    axis = a.integer("vector_axis") % indices.ndim
    shape = list(indices.shape)
    shape[axis] *= vector
    return np.asarray(np.moveaxis(entries, -1, axis + 1).reshape(shape))


def _lut_to_sparse(a: Arguments) -> tuple[Array, Array]:
    mask, lut = a["indices_mask"], a["lut"]
    dense = _looked_up(a, _dense(mask.astype(bool), a["indices_nonzero_data"]), lut)
    if lut.shape[-1] > 1:
        mask = np.repeat(mask, lut.shape[-1], a.integer("vector_axis"))
    return mask, dense[mask.astype(bool)]


def _sparse_to_dense(a: Arguments) -> Array:
    if "shape" not in a:
        return _dense(a["mask"].astype(bool), a["nonzero_data"])
    shape = a.integers("shape")
    packed = a["mask"].astype(np.uint8).tobytes()
    mask = unpacked(packed, ElementType.UINT1, int(np.prod(shape))).reshape(shape)
    return _dense(mask.astype(bool), a["nonzero_data"])


def _dense(mask: Array, values: Array) -> Array:
    if int(mask.sum()) != values.size:
        raise ValueError(f"{values.size} values for {int(mask.sum())} places")
    result = np.zeros(mask.shape, values.dtype)
    result[mask] = values
    return result


OPERATIONS: Mapping[str, Compute] = {
    "constexpr_affine_dequantize": _affine,
    "constexpr_blockwise_shift_scale": _blockwise,
    "constexpr_cast": lambda a: a["source_val"],
    "constexpr_lut_to_dense": _lut_to_dense,
    "constexpr_lut_to_sparse": _lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": _sparse_blockwise,
    "constexpr_sparse_to_dense": _sparse_to_dense,
    "dequantize": _dequantize,
    "quantize": _quantize,
}
