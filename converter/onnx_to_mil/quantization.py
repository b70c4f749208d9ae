"""Quantized models: numbers of eight bits are computed in floats, which hold them exactly."""

from __future__ import annotations

import numpy as np

from converter.onnx_importing.quantization import range_of, steps_of
from converter.onnx_to_mil.node import Convert, Node, Value, mb

__all__ = ["OPERATORS"]


def _quantize(node: Node) -> Value:
    low, high = range_of(node)
    scale, zero = steps_of(node)
    steps = mb.add(x=mb.round(x=mb.real_div(x=node.var(0), y=scale)), y=zero)
    steps = mb.minimum(x=mb.maximum(x=steps, y=np.float32(low)), y=np.float32(high))
    return mb.cast(x=steps, dtype="int32")


def _dequantize(node: Node) -> Value:
    scale, zero = steps_of(node)
    if node.known(0):
        value = node.constant(0, "weights").astype(np.float32)
        return mb.identity(x=((value - zero) * scale).astype(np.float32))
    return mb.mul(x=mb.sub(x=mb.cast(x=node.var(0), dtype="fp32"), y=zero), y=scale)


OPERATORS: dict[str, Convert] = {"QuantizeLinear": _quantize, "DequantizeLinear": _dequantize}
