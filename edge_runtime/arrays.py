"""Between numpy arrays and the contract's tensors."""

from __future__ import annotations

import numpy as np

from edge_runtime.errors import InputError
from edge_runtime.port import AnyArray
from ota_contract.inference_protocol import TensorValue
from ota_contract.tensors import Array, Datatype

__all__ = ["datatype_of", "from_array", "from_value", "to_array", "to_value"]

_DATATYPES = {np.dtype(datatype.dtype): datatype for datatype in Datatype}


def datatype_of(array: AnyArray) -> Datatype:
    """The contract's name of an array's element type.

    Raises:
        InputError: The type has no name there (complex, object, text).
    """
    datatype = _DATATYPES.get(array.dtype.newbyteorder("<"))
    if datatype is None:
        raise InputError(f"arrays of {array.dtype} cannot be carried")
    return datatype


def to_array(array: AnyArray) -> Array:
    """Copy a numpy array into little-endian, C-ordered bytes."""
    datatype = datatype_of(array)
    data = np.ascontiguousarray(array, dtype=datatype.dtype).tobytes()
    return Array(datatype=datatype, shape=array.shape, data=data)


def from_array(array: Array) -> AnyArray:
    """A writable numpy array of the same value."""
    flat = np.frombuffer(array.data, dtype=array.datatype.dtype)
    return flat.reshape(array.shape).copy()


def to_value(name: str, array: AnyArray) -> TensorValue:
    """A named tensor of the Open Inference Protocol."""
    return TensorValue(
        name=name,
        datatype=datatype_of(array),
        shape=array.shape,
        data=array.reshape(-1).tolist(),
    )


def from_value(value: TensorValue) -> AnyArray:
    """The array of a protocol tensor.

    Raises:
        InputError: An element does not fit the datatype.
    """
    try:
        with np.errstate(over="ignore"):  # told below, not on stderr
            array = np.array(value.data, dtype=value.datatype.dtype).reshape(value.shape)
    except (OverflowError, ValueError, TypeError) as error:
        raise InputError(f"tensor {value.name}: {error}") from error
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"tensor {value.name}: an element is beyond {value.datatype.value}")
    return array
