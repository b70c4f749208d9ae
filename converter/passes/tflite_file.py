"""Reads what a TFLite file holds: the names of its tensors, its operators, and what it needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from converter.errors import PassError, Reason
from converter.layers import Layer
from converter.passes.tflite_layers import opened, operator_name, operators_of

__all__ = ["FILE", "describe", "left_in_float"]

FILE = "model.tflite"

_RUNTIME_METADATA = b"min_runtime_version"
_TYPES = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
_FLOATS = ("FLOAT32", "FLOAT64")
_INTEGERS = ("INT8", "UINT8", "INT16")
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_AROUND = ("QUANTIZE", "DEQUANTIZE")
"""What quantizers put between layers."""
_LEAST_RANK = 2


def describe(content: bytes, input_names: Sequence[str], output_names: Sequence[str]) -> dict[str, Any]:
    """Facts of a model: its own tensor names by the signature's, operators, least TensorFlow version."""
    model = opened(content)
    graph = model.subgraphs[0]
    kinds = Counter(operator_name(model, operator) for operator in graph.operators)
    weighted = [item for item in operators_of(model) if operator_name(model, item) in _WEIGHTED]
    return {
        "inputs": _names(graph, input_names, graph.inputs),
        "outputs": _names(graph, output_names, graph.outputs),
        "operators": len(graph.operators),
        "kinds": dict(sorted(kinds.items())),
        "weighted": len(weighted),
        "weighted_integer": sum(_type(graph.tensors[item.inputs[0]]) in _INTEGERS for item in weighted),
        "weight_types": dict(sorted(_weight_types(model).items())),
        "blocks": any(_in_blocks(tensor) for tensor in graph.tensors),
        "min_runtime_version": _least_runtime(model),
    }


def left_in_float(model: Any, layers: Sequence[Layer]) -> list[str]:  # noqa: ANN401 - generated classes
    """The layers of the float model whose weights are single floats in what became of it.

    Raises:
        PassError: The operators are not those of the float model any more.
    """
    operators = [item for item in operators_of(model) if operator_name(model, item) not in _AROUND]
    before = [layer for layer in layers if layer.op not in _AROUND]
    if [operator_name(model, item) for item in operators] != [layer.op for layer in before]:
        raise PassError("tflite_to_tflite", Reason.PARITY, "the quantizer changed more than numbers")
    return [
        layer.layer
        for layer, operator in zip(before, operators, strict=True)
        if layer.weight_bytes and any(kind in _FLOATS for kind in _stored_types(model, operator))
    ]


def _weight_types(model: Any) -> Counter[str]:  # noqa: ANN401
    operators = [item for item in operators_of(model) if operator_name(model, item) not in _AROUND]
    return Counter(kind for operator in operators for kind in set(_stored_types(model, operator)))


def _stored_types(model: Any, operator: Any) -> Iterator[str]:  # noqa: ANN401
    """The types an operator's weights are stored in, also where they are unpacked in front of it."""
    graph = model.subgraphs[0]
    unpacked = {
        int(item.outputs[0]): int(item.inputs[0])
        for item in graph.operators
        if operator_name(model, item) == "DEQUANTIZE"
    }
    for index in operator.inputs:
        tensor = graph.tensors[unpacked.get(int(index), int(index))]
        data = model.buffers[tensor.buffer].data if index >= 0 else None
        shape = () if tensor.shape is None else tensor.shape
        if data is not None and len(data) and len(shape) >= _LEAST_RANK:
            yield _type(tensor)


def _in_blocks(tensor: Any) -> bool:  # noqa: ANN401
    kind = None if tensor.quantization is None else tensor.quantization.detailsType
    return bool(kind == schema.QuantizationDetails.BlockwiseQuantization)


def _type(tensor: Any) -> str:  # noqa: ANN401
    return str(_TYPES[tensor.type])


def _names(graph: Any, names: Sequence[str], indices: Any) -> dict[str, str]:  # noqa: ANN401
    found = [graph.tensors[index].name.decode() for index in indices]
    return dict(zip(names, found, strict=True))


def _least_runtime(model: Any) -> str:  # noqa: ANN401
    for entry in model.metadata or ():
        if entry.name == _RUNTIME_METADATA:
            data = model.buffers[entry.buffer].data
            return bytes(data).split(b"\0")[0].decode() if data is not None else ""
    return ""
