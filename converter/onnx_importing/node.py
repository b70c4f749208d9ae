"""An ONNX operator as the functions of a table see it: attributes, constants, and values already made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from converter.errors import OperatorRefusedError

__all__ = ["FLOATS", "Node", "Stated", "Value", "dims", "is_known", "type_name"]

Value = Any
"""A numpy array where it is known, else a value of the framework, whose types are its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What ONNX infers of an output."""

    shape: tuple[int, ...] | None
    elem_type: int
    """As `onnx.TensorProto.DataType`; 0 where it is not known."""


class Node:
    """One operator with what it reads."""

    target = ""
    """What is being built, as refusals name it."""

    def __init__(
        self,
        op_type: str,
        name: str,
        attributes: Mapping[str, Any],
        inputs: Sequence[Value | None],
        stated: Sequence[Stated],
        outputs: Sequence[str],
    ) -> None:
        """Hold what the walk found."""
        self.op_type = op_type
        self.name = name
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.stated = list(stated)
        self._attributes = attributes

    def __len__(self) -> int:
        return len(self.inputs)

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def value(self, index: int) -> Value:
        """An input: an array or a value of the framework."""
        if not self.has(index):
            self.refuse(f"input {index} is missing")
        return self.inputs[index]

    def known_value(self, index: int) -> Any:  # noqa: ANN401
        """An input as an array, or None where it is computed."""
        value = self.value(index)
        return value if is_known(value) else None

    def shape(self, index: int) -> tuple[int, ...]:
        """The lengths of an input, all of them fixed."""
        return dims(self.value(index))

    def constant(self, index: int, what: str) -> Any:  # noqa: ANN401
        """An input that must be known, as a numpy array."""
        value = self.known_value(index)
        if value is None:
            self.refuse(f"its {what} are not known before it runs")
        return np.asarray(value)

    def integers(self, index: int, what: str) -> list[int]:
        """A known input of whole numbers."""
        return [int(item) for item in self.constant(index, what).reshape(-1)]

    def known(self, index: int) -> bool:
        """Whether an input is given and a constant."""
        return self.has(index) and self.known_value(index) is not None

    def attr(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """An attribute, text decoded."""
        value = self._attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def only(self, name: str, allowed: Any, default: Any) -> None:  # noqa: ANN401
        """Refuse an attribute of another value than the one there is an equal for."""
        value = self.attr(name, default)
        if value != allowed:
            self.refuse(f"{name} {value}")

    def axis(self, default: int, rank: int | None = None) -> int:
        """The attribute of this name, counted from the front of the first input or of `rank` axes."""
        given: int = self.attr("axis", default)
        return given % (len(self.shape(0)) if rank is None else rank)

    def wanted(self, index: int) -> bool:
        """Whether anything reads an output."""
        return index < len(self.outputs) and bool(self.outputs[index])

    def refuse(self, why: str) -> NoReturn:
        """Stop: this operator is known, this use of it is not.

        Raises:
            OperatorRefusedError: Always.
        """
        where = self.name or (self.outputs[0] if self.outputs else "")
        raise OperatorRefusedError(f"cannot convert to {self.target}: op {self.op_type} ({where}): {why}")


def dims(value: Value) -> tuple[int, ...]:
    """The lengths of a value, all of them fixed."""
    return tuple(int(length) for length in value.shape)


def is_known(value: Value) -> bool:
    """Whether a value is an array, and nothing that will be computed."""
    return isinstance(value, (np.ndarray, np.generic))


FLOATS = (1, 10, 11, 16)
"""FLOAT, FLOAT16, DOUBLE and BFLOAT16 of `onnx.TensorProto`."""


def type_name(elem_type: int) -> str:
    """As `onnx.TensorProto` names it."""
    from onnx import TensorProto  # noqa: PLC0415 - tables of operators need no onnx

    return str(TensorProto.DataType.Name(elem_type))
