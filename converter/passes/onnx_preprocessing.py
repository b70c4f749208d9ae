"""Puts the recipe's names, types, layout and the converter's preprocessing steps around an ONNX graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from converter.passes.folding import computed_type
from converter.passes.onnx_cleaning import value_info
from converter.passes.signature import Matched, MatchedInput
from edge_runtime.port import AnyArray
from edge_runtime.preprocessing import affine_operands
from ota_contract.preprocessing_steps import Affine, Transpose

__all__ = ["with_signature"]

_INNER = "source/"


def with_signature(model: Any, matched: Matched) -> Any:  # noqa: ANN401 - onnx publishes no types
    """A copy whose inputs and outputs are the recipe's; inner tensors are renamed out of their way.

    Raises:
        RecipeError: A step has no equal among ONNX's operators.
    """
    model = onnx.compose.add_prefix(model, _INNER)
    graph = model.graph
    del graph.input[:]
    before = [node for item in matched.inputs for node in _front(item)]
    after = [
        helper.make_node("Identity", [_INNER + inner], [tensor.name]) for tensor, inner in matched.outputs
    ]
    for item in matched.inputs:
        tensor = item.plan.tensor
        graph.input.append(value_info(tensor.name, _type(np.dtype(tensor.datatype.dtype)), tensor.shape))
    nodes = [*before, *graph.node, *after]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    del graph.output[:]
    for tensor, _ in matched.outputs:
        graph.output.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, None))
    del graph.value_info[:]  # they followed from the source's own shapes
    return model


def _front(item: MatchedInput) -> list[Any]:
    """From the recipe's tensor to what the graph takes."""
    tensor = item.plan.tensor
    nodes: list[Any] = []
    name, dtype = tensor.name, np.dtype(tensor.datatype.dtype)

    def add(operator: str, inputs: list[str], **attributes: Any) -> str:  # noqa: ANN401
        made = f"front/{tensor.name}/{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [made], **attributes))
        return made

    def constant(value: AnyArray) -> str:
        return add("Constant", [], value=onnx.numpy_helper.from_array(value))

    for step in item.plan.converter_steps:
        wanted = computed_type(step, dtype, tensor.name)
        if wanted != dtype:
            name, dtype = add("Cast", [name], to=_type(wanted)), wanted
        if isinstance(step, Affine):
            scale, offset = affine_operands(step)
            name = add("Mul", [name, constant(scale)])
            if offset.any():
                name = add("Add", [name, constant(offset)])
        if isinstance(step, Transpose):
            name = add("Transpose", [name], perm=step.axes)
    if item.permutation:
        name = add("Transpose", [name], perm=item.permutation)
    if dtype != item.dtype:
        name = add("Cast", [name], to=_type(item.dtype))
    nodes.append(helper.make_node("Identity", [name], [_INNER + item.inner]))
    return nodes


def _type(dtype: np.dtype[Any]) -> int:
    return int(helper.np_dtype_to_tensor_dtype(dtype))
