"""Tensor datatypes, in the Open Inference Protocol's words.

https://github.com/kserve/open-inference-protocol, "Tensor Data Types". The manifest's signature, the
golden vectors and the inference protocol share this one table; numpy is not needed to read it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

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


class Datatype(Enum):
    """An element type and how many bytes one element takes; BYTES (strings) is not carried."""

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

    @property
    def item_bytes(self) -> int:
        """Bytes of one element."""
        bits = "".join(filter(str.isdigit, self.value))
        return int(bits) // 8 if bits else 1

    @property
    def dtype(self) -> str:
        """The numpy (array interface) name of the little-endian type, such as `<f4`."""
        if self is Datatype.BOOL:
            return "|b1"
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
    """A tensor's value as little-endian, C-ordered bytes."""

    datatype: Datatype
    shape: tuple[int, ...]
    data: bytes

    def __post_init__(self) -> None:
        expected = math.prod(self.shape) * self.datatype.item_bytes
        if len(self.data) != expected:
            raise FormatError(
                f"{self.datatype.value} of shape {list(self.shape)} takes {expected} bytes, "
                f"got {len(self.data)}"
            )


def tensor_from(reader: Reader) -> Tensor:
    """Parse one tensor of a signature.

    Raises:
        FormatError: A field is missing, of the wrong type or out of bounds.
    """
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
