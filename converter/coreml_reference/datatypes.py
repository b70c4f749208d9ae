"""MIL's element types: how they are named, stored and computed with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "ElementType", "TensorType", "narrowed", "unpacked", "widened"]

Array = NDArray[Any]

_BYTE_BITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Storage:
    numpy: str
    bits: int
    blob: int | None
    """The number weight files give the type; None where they do not hold it."""


class ElementType(Enum):
    """An element type, by its number in `MIL.proto`."""

    BOOL = 1
    STRING = 2
    FLOAT16 = 10
    FLOAT32 = 11
    FLOAT64 = 12
    INT8 = 21
    INT16 = 22
    INT32 = 23
    INT64 = 24
    INT4 = 25
    UINT8 = 31
    UINT16 = 32
    UINT32 = 33
    UINT64 = 34
    UINT4 = 35
    UINT2 = 36
    UINT1 = 37
    UINT6 = 38
    UINT3 = 39

    @property
    def numpy(self) -> np.dtype[Any]:
        """The least numpy type that holds every value."""
        return np.dtype(_STORAGE[self].numpy)

    @property
    def bits(self) -> int:
        """Of one element in a file."""
        return _STORAGE[self].bits

    @property
    def blob(self) -> int | None:
        """The type's number in a weight file."""
        return _STORAGE[self].blob

    @property
    def signed(self) -> bool:
        """Whether its integers may be negative."""
        return self.numpy.kind == "i"


_STORAGE: Mapping[ElementType, _Storage] = {
    ElementType.BOOL: _Storage(numpy="?", bits=8, blob=None),
    ElementType.STRING: _Storage(numpy="U", bits=0, blob=None),
    ElementType.FLOAT16: _Storage(numpy="<f2", bits=16, blob=1),
    ElementType.FLOAT32: _Storage(numpy="<f4", bits=32, blob=2),
    ElementType.FLOAT64: _Storage(numpy="<f8", bits=64, blob=None),
    ElementType.INT8: _Storage(numpy="i1", bits=8, blob=4),
    ElementType.INT16: _Storage(numpy="<i2", bits=16, blob=6),
    ElementType.INT32: _Storage(numpy="<i4", bits=32, blob=14),
    ElementType.INT64: _Storage(numpy="<i8", bits=64, blob=None),
    ElementType.INT4: _Storage(numpy="i1", bits=4, blob=8),
    ElementType.UINT8: _Storage(numpy="u1", bits=8, blob=3),
    ElementType.UINT16: _Storage(numpy="<u2", bits=16, blob=7),
    ElementType.UINT32: _Storage(numpy="<u4", bits=32, blob=15),
    ElementType.UINT64: _Storage(numpy="<u8", bits=64, blob=None),
    ElementType.UINT4: _Storage(numpy="u1", bits=4, blob=11),
    ElementType.UINT2: _Storage(numpy="u1", bits=2, blob=10),
    ElementType.UINT1: _Storage(numpy="u1", bits=1, blob=9),
    ElementType.UINT6: _Storage(numpy="u1", bits=6, blob=13),
    ElementType.UINT3: _Storage(numpy="u1", bits=3, blob=12),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorType:
    """What a program declares of a value."""

    element: ElementType
    shape: tuple[int | None, ...] | None
    """None for a length, or for all of it, where the program leaves it open."""

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether a value of this shape may be called so."""
        if self.shape is None:
            return True
        same_rank = len(self.shape) == len(shape)
        return same_rank and all(want in (None, got) for want, got in zip(self.shape, shape, strict=True))


def unpacked(data: bytes, element: ElementType, count: int) -> Array:
    """Elements of a byte string, the first in the least significant bits of the first byte.

    Raises:
        ValueError: There are fewer bytes than that takes.
    """
    if len(data) < (count * element.bits + _BYTE_BITS - 1) // _BYTE_BITS:
        raise ValueError(f"{len(data)} bytes do not hold {count} elements of {element.name}")
    if element.bits >= _BYTE_BITS:
        return np.frombuffer(data, dtype=element.numpy, count=count)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little", count=count * element.bits)
    values = bits.reshape(count, element.bits) @ (1 << np.arange(element.bits))
    if element.signed:
        values = values - ((values >> (element.bits - 1)) << element.bits)
    return values.astype(element.numpy)


def widened(value: Array) -> Array:
    """The same values in the type they are computed in: doubles and 64-bit integers."""
    if value.dtype.kind == "f":
        return value.astype(np.float64)
    return value.astype(np.int64) if value.dtype.kind in "iu" else value


def narrowed(value: Array, element: ElementType) -> Array:
    """Rounded once, to nearest even, to the type a program declares."""
    if element is ElementType.STRING:
        return value
    with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN are found in the answers
        return np.asarray(value).astype(element.numpy)
