"""An ONNX operator as the functions of the table see it: attributes, constants, and values already made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from coremltools.converters.mil import Builder as mb  # noqa: N813 - as all of coremltools calls it

from converter.errors import OperatorRefusedError

__all__ = ["Convert", "Node", "Value", "as_constant", "dims", "is_bool", "is_float", "mb"]

Value = Any
"""A numpy array where it is known, else a variable of the program; coremltools publishes no types."""

_INT32 = np.iinfo(np.int32)


class Node:
    """One operator with what it reads."""

    def __init__(
        self,
        op_type: str,
        name: str,
        attributes: Mapping[str, Any],
        inputs: Sequence[Value | None],
        shapes: Sequence[tuple[int, ...] | None],
        elem_types: Sequence[int],
        outputs: Sequence[str],
    ) -> None:
        """Hold what the importer found; `shapes` and `elem_types` are the outputs', as ONNX infers them."""
        self.op_type = op_type
        self.name = name
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.shapes = list(shapes)
        self.elem_types = list(elem_types)
        self._attributes = attributes

    def __len__(self) -> int:
        return len(self.inputs)

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def value(self, index: int) -> Value:
        """An input: an array or a variable."""
        if not self.has(index):
            self.refuse(f"input {index} is missing")
        return self.inputs[index]

    def var(self, index: int) -> Value:
        """An input as an operation takes it; constants in the types MIL has."""
        return as_constant(self.value(index))

    def constant(self, index: int, what: str) -> Any:  # noqa: ANN401
        """An input that must be known, as a numpy array."""
        value = self.value(index)
        if not isinstance(value, np.ndarray):
            value = getattr(value, "val", None)
        if value is None:
            self.refuse(f"its {what} are not known before it runs")
        return np.asarray(value)

    def integers(self, index: int, what: str) -> list[int]:
        """A known input of whole numbers."""
        return [int(item) for item in self.constant(index, what).reshape(-1)]

    def known(self, index: int) -> bool:
        """Whether an input is given and a constant."""
        if not self.has(index):
            return False
        value: Any = self.inputs[index]
        return isinstance(value, np.ndarray) or value.val is not None

    def attr(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """An attribute, text decoded."""
        value = self._attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def only(self, name: str, allowed: Any, default: Any) -> None:  # noqa: ANN401
        """Refuse an attribute of another value than the one there is an equal for."""
        value = self.attr(name, default)
        if value != allowed:
            self.refuse(f"{name} {value}")

    def wanted(self, index: int) -> bool:
        """Whether anything reads an output."""
        return index < len(self.outputs) and bool(self.outputs[index])

    def refuse(self, why: str) -> NoReturn:
        """Stop: this operator is known, this use of it is not.

        Raises:
            OperatorRefusedError: Always.
        """
        where = self.name or (self.outputs[0] if self.outputs else "")
        raise OperatorRefusedError(f"cannot convert to Core ML: op {self.op_type} ({where}): {why}")


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


def dims(value: Value) -> tuple[int, ...]:
    """The lengths of a value, all of them fixed."""
    return tuple(int(length) for length in np.shape(value)) if _plain(value) else tuple(map(int, value.shape))


def is_float(value: Value) -> bool:
    """Whether it holds floats."""
    if _plain(value):
        return bool(np.asarray(value).dtype.kind == "f")
    return str(value.dtype.__name__).startswith("fp")


def is_bool(value: Value) -> bool:
    """Whether it holds truth values."""
    if _plain(value):
        return bool(np.asarray(value).dtype.kind == "b")
    return bool(value.dtype.__name__ == "bool")


def _plain(value: Value) -> bool:
    return isinstance(value, (np.ndarray, np.generic))
