"""The layers of an ONNX model, by the names of their nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx

from converter.layers import Layer

__all__ = ["float_weights", "onnx_layers"]

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
_LEAST_RANK = 2
"""Biases and scales are left as they are: they are small, and what they are added to is not."""


def float_weights(graph: Any) -> Mapping[str, Any]:  # noqa: ANN401 - onnx publishes no types
    """The initializers that are weights: floats of two dimensions and more."""
    return {
        item.name: item
        for item in graph.initializer
        if item.data_type in _FLOATS and len(item.dims) >= _LEAST_RANK
    }


def onnx_layers(model: Any) -> tuple[Layer, ...]:  # noqa: ANN401
    """Every node of the main graph, in order; what graphs inside nodes hold cannot be named."""
    weights = {name: len(_bytes(item)) for name, item in float_weights(model.graph).items()}
    return tuple(
        Layer(
            layer=node.name,
            op=node.op_type,
            weight_bytes=sum(weights.get(name, 0) for name in set(node.input)),
        )
        for node in model.graph.node
    )


def _bytes(tensor: Any) -> bytes:  # noqa: ANN401
    content: bytes = onnx.numpy_helper.to_array(tensor).tobytes()
    return content
