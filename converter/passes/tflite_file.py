"""Reads what a TFLite file holds: the names of its tensors, its operators, and what it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ai_edge_litert import schema_py_generated as schema

__all__ = ["describe"]

_RUNTIME_METADATA = b"min_runtime_version"
_INTEGERS = (schema.TensorType.INT8, schema.TensorType.UINT8, schema.TensorType.INT16)
_WEIGHTED = (
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
    schema.BuiltinOperator.TRANSPOSE_CONV,
)


def describe(content: bytes, input_names: Sequence[str], output_names: Sequence[str]) -> dict[str, Any]:
    """Facts of a model: its own tensor names by the signature's, operators, least TensorFlow version."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    operators = list(_operators(model, graph))
    weighted = [first for code, first in operators if code in _WEIGHTED]
    return {
        "inputs": _names(graph, input_names, graph.inputs),
        "outputs": _names(graph, output_names, graph.outputs),
        "operators": len(operators),
        "weighted": len(weighted),
        "weighted_integer": sum(first in _INTEGERS for first in weighted),
        "min_runtime_version": _least_runtime(model),
    }


def _names(graph: Any, names: Sequence[str], indices: Any) -> dict[str, str]:  # noqa: ANN401
    found = [graph.tensors[index].name.decode() for index in indices]
    return dict(zip(names, found, strict=True))


def _operators(model: Any, graph: Any) -> Iterator[tuple[int, int]]:  # noqa: ANN401
    """Each operator's code, and the type of its first input."""
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        first = graph.tensors[operator.inputs[0]].type if len(operator.inputs) else -1
        yield max(code.builtinCode, code.deprecatedBuiltinCode), first


def _least_runtime(model: Any) -> str:  # noqa: ANN401
    for entry in model.metadata or ():
        if entry.name == _RUNTIME_METADATA:
            data = model.buffers[entry.buffer].data
            return bytes(data).split(b"\0")[0].decode() if data is not None else ""
    return ""
