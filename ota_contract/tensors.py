"""Tensor datatypes, in the Open Inference Protocol's words.

https://github.com/kserve/open-inference-protocol, "Tensor Data Types". The manifest's signature, the
golden vectors and the inference protocol share this one table; numpy is not needed to read it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Self

from ota_contract.documents import Reader
from ota_contract.errors import FormatError

__all__ = [
    "DYNAMIC",
    "MAX_RANK",
    "Array",
    "Datatype",
    "Tensor",
    "tensor_from",
    "tensor_to_json",
]

MAX_RANK = 8
DYNAMIC = -1
"""A dimension of any length, in a signature's shape."""

_MAX_DIMENSION = 2**31 - 1
_LENGTH_BYTES = 4


class Datatype(Enum):
    """An element type and how many bytes one element takes.

    BYTES, texts or files of any length each, are raw values only: no model's tensor is made of them.
    """

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def item_bytes(self) -> int:
        """Bytes of one element; 0 for BYTES, whose elements have each their own length."""
        if self is Datatype.BYTES:
            return 0
        bits = "".join(filter(str.isdigit, self.value))
        return int(bits) // 8 if bits else 1

    @property
    def dtype(self) -> str:
        """The numpy (array interface) name of the little-endian type, such as `<f4`; `|O` for BYTES."""
        if self in (Datatype.BOOL, Datatype.BYTES):
            return {Datatype.BOOL: "|b1", Datatype.BYTES: "|O"}[self]
        kind = {"U": "u", "I": "i", "F": "f"}[self.value[0]]
        return f"{'|' if self.item_bytes == 1 else '<'}{kind}{self.item_bytes}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One input or output of a release's signature."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    """Lengths; −1 where any length is taken."""
    layout: str = ""
    """Axis letters such as `NHWC`; empty where axes have no customary letters."""
    meaning: str = ""

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape fits the signature."""
        return len(shape) == len(self.shape) and all(
            expected in (DYNAMIC, length) for expected, length in zip(self.shape, shape, strict=True)
        )

    def least_bytes(self) -> int:
        """Bytes of the tensor with every dynamic dimension at one."""
        return self.datatype.item_bytes * math.prod(max(1, length) for length in self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """A tensor's value as little-endian, C-ordered bytes.

    Elements of BYTES are each preceded by their length in four bytes, as in the protocol's binary form.
    """

    datatype: Datatype
    shape: tuple[int, ...]
    data: bytes

    def __post_init__(self) -> None:
        if self.datatype is Datatype.BYTES:
            if len(_split(self.data)) != math.prod(self.shape):
                raise FormatError(f"{len(self.data)} bytes are not BYTES of shape {list(self.shape)}")
            return
        expected = math.prod(self.shape) * self.datatype.item_bytes
        if len(self.data) != expected:
            raise FormatError(
                f"{self.datatype.value} of shape {list(self.shape)} takes {expected} bytes, "
                f"got {len(self.data)}"
            )

    @classmethod
    def of_bytes(cls, shape: tuple[int, ...], elements: Iterable[bytes]) -> Self:
        """An array of BYTES."""
        data = b"".join(len(item).to_bytes(_LENGTH_BYTES, "little") + item for item in elements)
        return cls(datatype=Datatype.BYTES, shape=shape, data=data)

    def elements(self) -> tuple[bytes, ...]:
        """The elements of an array of BYTES."""
        return _split(self.data)


def tensor_from(reader: Reader) -> Tensor:
    """Parse one tensor of a signature.

    Raises:
        FormatError: A field is missing, of the wrong type or out of bounds.
    """
    if reader.member("datatype", Datatype) is Datatype.BYTES:
        reader.fail("datatype", "a model's tensors are not BYTES; a raw value may be")
    return Tensor(
        name=reader.text("name", max_length=64),
        datatype=reader.member("datatype", Datatype),
        shape=reader.integers("shape", max_items=MAX_RANK, low=DYNAMIC, high=_MAX_DIMENSION),
        layout=reader.text("layout", max_length=MAX_RANK, default=""),
        meaning=reader.text("meaning", max_length=256, default=""),
    )


def tensor_to_json(tensor: Tensor) -> dict[str, object]:
    """The inverse of `tensor_from`."""
    return {
        "name": tensor.name,
        "datatype": tensor.datatype.value,
        "shape": list(tensor.shape),
        "layout": tensor.layout,
        "meaning": tensor.meaning,
    }


def _split(data: bytes) -> tuple[bytes, ...]:
    elements: list[bytes] = []
    begin = 0
    while begin < len(data):
        end = begin + _LENGTH_BYTES
        length = int.from_bytes(data[begin:end], "little")
        begin = end + length
        if begin > len(data):
            raise FormatError(f"element {len(elements)} of BYTES is longer than what is there")
        elements.append(data[end:begin])
    return tuple(elements)
