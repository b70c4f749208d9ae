"""The layers of an mlpackage, by the first value each operation makes."""

from __future__ import annotations

import math

from converter.coreml_reference.datatypes import ElementType
from converter.coreml_reference.program import Operation, Program, Reference
from converter.layers import Layer

__all__ = ["coreml_layers"]

_FLOAT_BYTES = {ElementType.FLOAT32: 4, ElementType.FLOAT16: 2}
_LEAST_RANK = 2


def coreml_layers(program: Program) -> tuple[Layer, ...]:
    """Every operation of the main block but the constants, in order."""
    constants = {
        operation.outputs[0].name: _weight_bytes(operation)
        for operation in program.block.operations
        if operation.kind == "const"
    }
    return tuple(
        Layer(
            layer=operation.outputs[0].name,
            op=operation.kind,
            weight_bytes=sum(constants.get(name, 0) for name in _references(operation)),
        )
        for operation in program.block.operations
        if operation.kind != "const" and operation.outputs
    )


def _references(operation: Operation) -> set[str]:
    return {
        value.name
        for values in operation.arguments.values()
        for value in values
        if isinstance(value, Reference)
    }


def _weight_bytes(constant: Operation) -> int:
    kind = constant.outputs[0].type
    if kind.shape is None or len(kind.shape) < _LEAST_RANK:
        return 0
    return math.prod(length or 0 for length in kind.shape) * _FLOAT_BYTES.get(kind.element, 0)
