"""Quantized models: numbers of eight bits are computed in floats, which hold them exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from converter.onnx_to_mil.node import Convert, Node, Value, dims, mb

__all__ = ["OPERATORS"]

_RANGES = {
    TensorProto.INT8: (-128, 127), TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-32768, 32767), TensorProto.UINT16: (0, 65535),
}  # fmt: skip


def _parameters(node: Node) -> tuple[Any, Any]:
    """Scale and zero point, shaped to go along their axis."""
    node.only("block_size", 0, 0)
    scale = node.constant(1, "scale").astype(np.float32)
    zero = node.constant(2, "zero point").astype(np.float32) if node.has(2) else np.zeros_like(scale)
    if scale.size > 1:
        rank = len(dims(node.var(0)))
        shape = [1] * rank
        shape[node.attr("axis", 1) % rank] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    else:
        scale, zero = scale.reshape(())[()], zero.reshape(())[()]
    return scale, zero


def _quantize(node: Node) -> Value:
    kind = node.elem_types[0]
    if kind not in _RANGES:
        node.refuse(f"to {TensorProto.DataType.Name(kind)}")
    scale, zero = _parameters(node)
    low, high = _RANGES[kind]
    steps = mb.add(x=mb.round(x=mb.real_div(x=node.var(0), y=scale)), y=zero)
    steps = mb.minimum(x=mb.maximum(x=steps, y=np.float32(low)), y=np.float32(high))
    return mb.cast(x=steps, dtype="int32")


def _dequantize(node: Node) -> Value:
    scale, zero = _parameters(node)
    if node.known(0):
        value = node.constant(0, "weights").astype(np.float32)
        return mb.identity(x=((value - zero) * scale).astype(np.float32))
    return mb.mul(x=mb.sub(x=mb.cast(x=node.var(0), dtype="fp32"), y=zero), y=scale)


OPERATORS: dict[str, Convert] = {"QuantizeLinear": _quantize, "DequantizeLinear": _dequantize}
