"""The layers of an mlpackage, by the first value each operation makes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from converter.coreml_reference.datatypes import ElementType
from converter.coreml_reference.program import Operation, Program, Reference
from converter.layers import Layer

__all__ = ["coreml_layers", "weight_names"]

_FLOAT_BYTES = {ElementType.FLOAT32: 4, ElementType.FLOAT16: 2}
_LEAST_RANK = 2


def coreml_layers(program: Program) -> tuple[Layer, ...]:
    """Every operation of the main block but the constants, in order."""
    constants = {item.outputs[0].name: item for item in program.block.operations if item.kind == "const"}
    return tuple(
        Layer(
            layer=operation.outputs[0].name,
            op=operation.kind,
            weight_bytes=sum(_weight_bytes(constants[name]) for name in weight_names(operation, constants)),
        )
        for operation in program.block.operations
        if operation.kind != "const" and not operation.kind.startswith("constexpr_") and operation.outputs
    )


def weight_names(operation: Operation, constants: Mapping[str, Operation]) -> tuple[str, ...]:
    """The constants among an operation's arguments that are weights: floats of two dimensions and more."""
    given = dict.fromkeys(
        value.name
        for values in operation.arguments.values()
        for value in values
        if isinstance(value, Reference)
    )
    return tuple(name for name in given if name in constants and _weight_bytes(constants[name]))


def _weight_bytes(constant: Operation) -> int:
    kind = constant.outputs[0].type
    if kind.shape is None or len(kind.shape) < _LEAST_RANK:
        return 0
    return math.prod(length or 0 for length in kind.shape) * _FLOAT_BYTES.get(kind.element, 0)
