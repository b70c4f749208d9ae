"""Stores the weights of ONNX nodes in 8 or 4 bits; their arithmetic stays in floats.

MatMul becomes MatMulNBits, which reads packed weights as it computes. Convolutions and recurrent layers get
a DequantizeLinear in front of their weights, and rows of a table are scaled once they are looked up; these
hold 8 bits at the least.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from converter.passes.onnx_graphs import attribute_of
from converter.passes.onnx_layers import float_weights
from converter.passes.onnx_rewriting import replace_nodes, with_initializer, without_gemm
from edge_runtime.port import AnyArray

__all__ = ["CONTRIB", "SHORTEST_BLOCK", "hold_weights", "packed_blocks"]

CONTRIB = "com.microsoft"
SHORTEST_BLOCK = 16
_BLOCK_SIZES = {4: 32, 8: 128}
"""By bits: four bits need scales closer together."""
_OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1, "LSTM": 1, "GRU": 1, "RNN": 1}
"""The axis of a weight along which outputs lie, so that each has a scale of its own."""
_BYTE = 8


def hold_weights(model: Any, names: frozenset[str], *, bits: int, block_size: int | None) -> None:  # noqa: ANN401
    """Rewrite the nodes of these names, in place, as far as they have weights that can be held so."""
    without_gemm(model, names)
    weights = {name: numpy_helper.to_array(item) for name, item in float_weights(model.graph).items()}
    nodes: list[Any] = []
    for node in model.graph.node:
        if node.name not in names:
            nodes.append(node)
        elif node.op_type == "MatMul" and node.input[1] in weights and weights[node.input[1]].ndim == 2:  # noqa: PLR2004
            size = block_size or _BLOCK_SIZES[bits]
            nodes.append(_packed_product(model, node, weights[node.input[1]], bits=bits, block_size=size))
        elif node.op_type in _OUTPUT_AXIS:
            nodes.extend(_dequantized(model, node, weights))
        elif node.op_type == "Gather" and node.input[0] in weights and attribute_of(node, "axis", 0) == 0:
            nodes.extend(_scaled_rows(model, node, weights[node.input[0]]))
        else:
            nodes.append(node)
    replace_nodes(model, nodes)
    used = {node.domain for node in model.graph.node}
    if CONTRIB in used and all(item.domain != CONTRIB for item in model.opset_import):
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))


def packed_blocks(weight: AnyArray, *, bits: int, block_size: int) -> tuple[AnyArray, AnyArray]:
    """A matrix [inputs, outputs] as MatMulNBits takes it.

    Returns:
        UINT8 [outputs, blocks, bytes], the lower half of a byte first; and FP32 scales [outputs, blocks].
        A weight is (stored − 2^(bits−1)) × scale.
    """
    inputs, outputs = weight.shape
    blocks = -(-inputs // block_size)
    padded = np.zeros((outputs, blocks * block_size), dtype=np.float32)
    padded[:, :inputs] = weight.T
    grouped = padded.reshape(outputs, blocks, block_size)
    middle = 1 << (bits - 1)
    # The weight of the greatest size gets the code farthest from the middle, which only one sign has.
    at = np.abs(grouped).argmax(axis=-1, keepdims=True)
    scales = np.take_along_axis(grouped, at, axis=-1) / -middle
    safe = np.where(scales == 0, 1, scales)
    codes = np.clip(np.rint(grouped / safe) + middle, 0, 2 * middle - 1).astype(np.uint8)
    if bits < _BYTE:
        codes = codes[..., 0::2] | codes[..., 1::2] << bits
    return codes, scales[..., 0].astype(np.float32)


def _packed_product(model: Any, node: Any, weight: AnyArray, *, bits: int, block_size: int) -> Any:  # noqa: ANN401
    inputs, outputs = weight.shape
    while block_size > SHORTEST_BLOCK and block_size >= 2 * inputs:
        block_size //= 2  # a block is stored whole, also where the matrix ends before it does
    codes, scales = packed_blocks(weight, bits=bits, block_size=block_size)
    return helper.make_node(
        "MatMulNBits",
        [
            node.input[0],
            with_initializer(model, f"{node.name}_codes", codes),
            with_initializer(model, f"{node.name}_scales", scales),
        ],
        list(node.output),
        name=node.name,
        domain=CONTRIB,
        K=inputs,
        N=outputs,
        bits=bits,
        block_size=block_size,
    )


def _dequantized(model: Any, node: Any, weights: dict[str, AnyArray]) -> list[Any]:  # noqa: ANN401
    """The node behind DequantizeLinear nodes for its weights, each output with a scale of its own."""
    axis = _OUTPUT_AXIS[node.op_type]
    nodes, given = [], list(node.input)
    for index, name in enumerate(node.input):
        weight = weights.get(name)
        if index == 0 or weight is None or weight.ndim <= 2:  # noqa: PLR2004 - biases of recurrent layers
            continue
        others = tuple(other for other in range(weight.ndim) if other != axis)
        scales = _eight_bit_scales(weight, others)
        codes = np.rint(weight / scales).astype(np.int8)
        given[index] = f"{node.name}_weight{index}"
        inputs = [
            with_initializer(model, f"{node.name}_codes{index}", codes),
            with_initializer(model, f"{node.name}_scales{index}", scales.reshape(-1)),
        ]
        nodes.append(
            helper.make_node(
                "DequantizeLinear", inputs, [given[index]], name=f"{node.name}/weight{index}", axis=axis
            )
        )
    node.input[:] = given
    return [*nodes, node]


def _scaled_rows(model: Any, node: Any, table: AnyArray) -> list[Any]:  # noqa: ANN401
    """Look up codes and scales, and multiply: the table itself is never unpacked."""
    scales = _eight_bit_scales(table, tuple(range(1, table.ndim)))
    codes = with_initializer(model, f"{node.name}_codes", np.rint(table / scales).astype(np.int8))
    factors = with_initializer(model, f"{node.name}_scales", scales)
    rows, values, found = (f"{node.output[0]}_{part}" for part in ("codes", "values", "scales"))
    index = node.input[1]
    return [
        helper.make_node("Gather", [codes, index], [rows], name=node.name),
        helper.make_node("Cast", [rows], [values], name=f"{node.name}/cast", to=TensorProto.FLOAT),
        helper.make_node("Gather", [factors, index], [found], name=f"{node.name}/scales"),
        helper.make_node("Mul", [values, found], list(node.output), name=f"{node.name}/scaled"),
    ]


def _eight_bit_scales(weight: AnyArray, axes: tuple[int, ...]) -> AnyArray:
    greatest = np.abs(weight).max(axis=axes, keepdims=True)
    return np.where(greatest == 0, 1, greatest / 127).astype(np.float32)
