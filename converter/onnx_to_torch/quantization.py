"""Quantized models: numbers of eight bits are computed in floats, which hold them exactly."""

from __future__ import annotations

import numpy as np
import torch

from converter.onnx_importing.quantization import range_of, steps_of
from converter.onnx_to_torch.node import Convert, Node, as_tensor

__all__ = ["OPERATORS"]


def _quantize(node: Node) -> torch.Tensor:
    low, high = range_of(node)
    scale, zero = (as_tensor(np.asarray(item)) for item in steps_of(node))
    steps = torch.round(node.tensor(0) / scale) + zero
    return torch.clamp(steps, low, high).to(torch.int32)


def _dequantize(node: Node) -> torch.Tensor:
    scale, zero = steps_of(node)
    if node.known(0):
        value = node.constant(0, "weights").astype(np.float32)
        return as_tensor((value - zero) * scale)
    return (node.tensor(0).to(torch.float32) - as_tensor(np.asarray(zero))) * as_tensor(np.asarray(scale))


OPERATORS: dict[str, Convert] = {"QuantizeLinear": _quantize, "DequantizeLinear": _dequantize}
