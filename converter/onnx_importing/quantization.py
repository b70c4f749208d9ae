"""Scales and zero points of quantized values; numbers of up to 16 bits are exact in floats."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from converter.onnx_importing.node import Node, type_name

__all__ = ["RANGES", "range_of", "steps_of"]

RANGES = {
    TensorProto.INT8: (-128, 127), TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-32768, 32767), TensorProto.UINT16: (0, 65535),
}  # fmt: skip


def range_of(node: Node) -> tuple[int, int]:
    """The least and greatest of what a node quantizes to.

    Raises:
        OperatorRefusedError: A type of another kind.
    """
    kind = node.stated[0].elem_type
    if kind not in RANGES:
        node.refuse(f"to {type_name(kind)}")
    return RANGES[kind]


def steps_of(node: Node) -> tuple[Any, Any]:
    """Scale and zero point as floats, shaped to go along their axis; scalars where there is one of each.

    Raises:
        OperatorRefusedError: They are computed, or given for blocks.
    """
    node.only("block_size", 0, 0)
    scale = node.constant(1, "scale").astype(np.float32)
    zero = node.constant(2, "zero point").astype(np.float32) if node.has(2) else np.zeros_like(scale)
    if scale.size > 1:
        rank = len(node.shape(0))
        shape = [1] * rank
        shape[node.axis(1)] = -1
        return scale.reshape(shape), zero.reshape(shape)
    return scale.reshape(())[()], zero.reshape(())[()]
