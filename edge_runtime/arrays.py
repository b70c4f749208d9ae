"""Between numpy arrays and the contract's tensors.

BYTES are arrays of `bytes` objects here; a data set holds them in numpy's fixed width (`S`), which drops zero
bytes at an element's end, and a caller may give them as `bytes` or `str`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from edge_runtime.errors import InputError
from edge_runtime.port import AnyArray
from ota_contract.inference_protocol import TensorValue
from ota_contract.tensors import Array, Datatype

__all__ = ["as_bytes", "datatype_of", "from_array", "from_value", "to_array", "to_value"]

_DATATYPES = {np.dtype(datatype.dtype): datatype for datatype in Datatype if datatype is not Datatype.BYTES}
_OF_BYTES = "SUO"
"""numpy's kinds of array whose elements may be BYTES."""


def datatype_of(array: AnyArray) -> Datatype:
    """The contract's name of an array's element type.

    Raises:
        InputError: The type has no name there (complex, dates, objects that are no bytes or text).
    """
    if array.dtype.kind in _OF_BYTES:
        as_bytes(array)
        return Datatype.BYTES
    datatype = _DATATYPES.get(array.dtype.newbyteorder("<"))
    if datatype is None:
        raise InputError(f"arrays of {array.dtype} cannot be carried")
    return datatype


def to_array(array: AnyArray) -> Array:
    """Copy a numpy array into little-endian, C-ordered bytes."""
    datatype = datatype_of(array)
    if datatype is Datatype.BYTES:
        return Array.of_bytes(array.shape, as_bytes(array))
    data = np.ascontiguousarray(array, dtype=datatype.dtype).tobytes()
    return Array(datatype=datatype, shape=array.shape, data=data)


def from_array(array: Array) -> AnyArray:
    """A writable numpy array of the same value."""
    if array.datatype is Datatype.BYTES:
        return _objects(array.elements()).reshape(array.shape)
    flat = np.frombuffer(array.data, dtype=array.datatype.dtype)
    return flat.reshape(array.shape).copy()


def to_value(name: str, array: Any) -> TensorValue:  # noqa: ANN401 - see below
    """A named tensor of the Open Inference Protocol, of an array or of BYTES as a caller gives them.

    Raises:
        InputError: It is neither.
    """
    if not isinstance(array, np.ndarray):
        elements = as_bytes(array)
        return TensorValue(name=name, datatype=Datatype.BYTES, shape=(len(elements),), data=elements)
    datatype = datatype_of(array)
    data = as_bytes(array) if datatype is Datatype.BYTES else array.reshape(-1).tolist()
    return TensorValue(name=name, datatype=datatype, shape=array.shape, data=data)


def from_value(value: TensorValue) -> AnyArray:
    """The array of a protocol tensor.

    Raises:
        InputError: An element does not fit the datatype.
    """
    if value.datatype is Datatype.BYTES:
        return _objects(value.data).reshape(value.shape)
    try:
        with np.errstate(over="ignore"):  # told below, not on stderr
            array = np.array(value.data, dtype=value.datatype.dtype).reshape(value.shape)
    except (OverflowError, ValueError, TypeError) as error:
        raise InputError(f"tensor {value.name}: {error}") from error
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"tensor {value.name}: an element is beyond {value.datatype.value}")
    return array


def as_bytes(value: Any) -> tuple[bytes, ...]:  # noqa: ANN401 - a caller's value, unchecked
    """The elements of BYTES: of one `bytes` or `str`, of a list or an array of them; text as UTF-8.

    Raises:
        InputError: Something else.
    """
    if isinstance(value, (bytes, str)):
        value = (value,)
    elif isinstance(value, np.ndarray):
        value = value.reshape(-1).tolist() if value.dtype.kind in _OF_BYTES else (value,)
    elif not isinstance(value, (list, tuple)):
        value = (value,)
    return tuple(map(_element, value))


def _element(item: object) -> bytes:
    if isinstance(item, bytes):
        return item
    if not isinstance(item, str):
        raise InputError(f"expected bytes or text, got {type(item).__name__}")
    try:
        return item.encode()
    except UnicodeEncodeError as error:  # a lone surrogate
        raise InputError("a text cannot be written as UTF-8") from error


def _objects(elements: Iterable[bytes]) -> AnyArray:
    items = tuple(elements)
    array = np.empty(len(items), dtype=object)  # filled one by one: numpy must not look into them
    for index, item in enumerate(items):
        array[index] = item
    return array
