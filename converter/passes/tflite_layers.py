"""The layers of a TFLite file, by the first tensor each makes."""

from __future__ import annotations

import math
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from converter.layers import Layer

__all__ = ["opened", "operator_name", "tflite_layers"]

_FLOAT_BYTES = {schema.TensorType.FLOAT32: 4, schema.TensorType.FLOAT16: 2}
_LEAST_RANK = 2
_OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def opened(content: bytes) -> Any:  # noqa: ANN401 - generated classes are untyped
    """The file as objects."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def operator_name(model: Any, operator: Any) -> str:  # noqa: ANN401
    """As the schema names it; a custom operator's own name."""
    code = model.operatorCodes[operator.opcodeIndex]
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    if builtin == schema.BuiltinOperator.CUSTOM and code.customCode is not None:
        return bytes(code.customCode).decode()
    return str(_OPERATORS[builtin])


def tflite_layers(model: Any) -> tuple[Layer, ...]:  # noqa: ANN401
    """Every operator of the main graph, in order."""
    graph = model.subgraphs[0]
    return tuple(
        Layer(
            layer=graph.tensors[operator.outputs[0]].name.decode(),
            op=operator_name(model, operator),
            weight_bytes=sum(_weight_bytes(model, graph.tensors[index]) for index in _given(operator)),
        )
        for operator in graph.operators
        if len(operator.outputs)
    )


def _given(operator: Any) -> set[int]:  # noqa: ANN401
    return {int(index) for index in operator.inputs if index >= 0}


def _weight_bytes(model: Any, tensor: Any) -> int:  # noqa: ANN401
    data = model.buffers[tensor.buffer].data
    shape = () if tensor.shape is None else tuple(int(length) for length in tensor.shape)
    if data is None or not len(data) or len(shape) < _LEAST_RANK:
        return 0
    return math.prod(shape) * _FLOAT_BYTES.get(tensor.type, 0)
