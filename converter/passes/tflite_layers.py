"""The layers of a TFLite file, by the first tensor each makes."""

from __future__ import annotations

import math
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from converter.layers import Layer

__all__ = ["opened", "operator_name", "operators_of", "row_length", "scope_of", "tflite_layers"]

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


def operators_of(model: Any) -> list[Any]:  # noqa: ANN401
    """The operators of the main graph that make something, which are its layers."""
    return [operator for operator in model.subgraphs[0].operators if len(operator.outputs)]


def tflite_layers(model: Any) -> tuple[Layer, ...]:  # noqa: ANN401
    """Every operator of the main graph, in order."""
    graph = model.subgraphs[0]
    return tuple(
        Layer(
            layer=graph.tensors[operator.outputs[0]].name.decode(),
            op=operator_name(model, operator),
            weight_bytes=sum(_weight_bytes(model, graph.tensors[index]) for index in _given(operator)),
        )
        for operator in operators_of(model)
    )


def scope_of(model: Any, index: int) -> str:  # noqa: ANN401
    """What ai-edge-quantizer matches a layer by: all the tensors it makes."""
    tensors = model.subgraphs[0].tensors
    return "".join(f"{tensors[out].name.decode()};" for out in operators_of(model)[index].outputs)


def row_length(model: Any, index: int) -> int:  # noqa: ANN401
    """The last dimension of a layer's greatest weight, 0 where it has none."""
    tensors = (model.subgraphs[0].tensors[given] for given in _given(operators_of(model)[index]))
    weights = [tensor for tensor in tensors if _weight_bytes(model, tensor)]
    return max((int(tensor.shape[-1]) for tensor in weights), default=0)


def _given(operator: Any) -> set[int]:  # noqa: ANN401
    return {int(index) for index in operator.inputs if index >= 0}


def _weight_bytes(model: Any, tensor: Any) -> int:  # noqa: ANN401
    data = model.buffers[tensor.buffer].data
    shape = () if tensor.shape is None else tuple(int(length) for length in tensor.shape)
    if data is None or not len(data) or len(shape) < _LEAST_RANK:
        return 0
    return math.prod(shape) * _FLOAT_BYTES.get(tensor.type, 0)
