"""An ONNX operator as the functions of the table see it: constants, and variables of the program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from coremltools.converters.mil import Builder as mb  # noqa: N813 - as all of coremltools calls it

from converter.onnx_importing import node as shared
from converter.onnx_importing.node import Value, dims, is_known

__all__ = ["Convert", "Node", "Value", "as_constant", "dims", "is_bool", "is_float", "mb"]

_INT32 = np.iinfo(np.int32)


class Node(shared.Node):
    """One operator with what it reads."""

    target = "Core ML"

    def known_value(self, index: int) -> Any:  # noqa: ANN401
        """An input as an array, also where coremltools has worked it out; None where it is computed."""
        value = self.value(index)
        return value if is_known(value) else value.val

    def var(self, index: int) -> Value:
        """An input as an operation takes it; constants in the types MIL has."""
        return as_constant(self.value(index))


Convert = Callable[[Node], "Value | Sequence[Value]"]
"""Makes an operator's outputs."""


def as_constant(value: Value) -> Value:
    """An array in a type MIL has; variables as they are.

    Raises:
        OverflowError: An integer beyond 32 bits.
    """
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind == "f":
        value = value.astype(np.float32)
    elif value.dtype.kind in "iu":
        if value.size and (value.min() < _INT32.min or value.max() > _INT32.max):
            raise OverflowError("a constant beyond 32 bits")
        value = value.astype(np.int32)
    elif value.dtype.kind != "b":
        raise OverflowError(f"a constant of type {value.dtype}")
    return value if value.ndim else value[()]


def is_float(value: Value) -> bool:
    """Whether it holds floats."""
    if is_known(value):
        return bool(np.asarray(value).dtype.kind == "f")
    return str(value.dtype.__name__).startswith("fp")


def is_bool(value: Value) -> bool:
    """Whether it holds truth values."""
    if is_known(value):
        return bool(np.asarray(value).dtype.kind == "b")
    return bool(value.dtype.__name__ == "bool")
