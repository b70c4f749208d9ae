"""Brings an ONNX graph into the form quantizers know, without losing what its nodes are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization.shape_inference import quant_pre_process

from converter.passes.onnx_graphs import attribute_of, captured_names

__all__ = ["fused", "replace_nodes", "with_initializer", "without_gemm"]


def fused(source: Path, scratch: Path) -> Any:  # noqa: ANN401 - onnx publishes no types
    """The graph with batch normalisation in convolutions and shapes inferred; nodes keep their names.

    Args:
        source: A model `canonical` wrote: its node names hold no slash.
        scratch: A file that may be written.
    """
    quant_pre_process(source, scratch, skip_symbolic_shape=True)
    model = onnx.load(scratch)
    for node in model.graph.node:  # a fusion appends its own name to that of the node it keeps
        node.name = node.name.partition("/")[0]
    used = {node.domain for node in model.graph.node} | {""}
    kept = [item for item in model.opset_import if item.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return model


def without_gemm(model: Any, names: frozenset[str]) -> None:  # noqa: ANN401
    """Turn the Gemm nodes of these names into MatMul and Add, in place; quantizers of weights skip Gemm."""
    weights = {item.name: item for item in model.graph.initializer}

    def expanded(node: Any) -> list[Any]:  # noqa: ANN401
        if node.op_type != "Gemm" or node.name not in names or node.input[1] not in weights:
            return [node]
        alpha, beta = attribute_of(node, "alpha", 1.0), attribute_of(node, "beta", 1.0)
        biased = len(node.input) > 2 and bool(node.input[2])  # noqa: PLR2004 - A, B, C
        if attribute_of(node, "transA", 0) or (biased and beta != 1.0):
            return [node]
        weight = numpy_helper.to_array(weights[node.input[1]]) * alpha
        if attribute_of(node, "transB", 0):
            weight = weight.T
        name = with_initializer(model, f"{node.input[1]}_{node.name}", weight.astype(weight.dtype))
        product = f"{node.output[0]}_product" if biased else node.output[0]
        nodes = [helper.make_node("MatMul", [node.input[0], name], [product], name=node.name)]
        if biased:
            nodes.append(
                helper.make_node("Add", [product, node.input[2]], [node.output[0]], name=f"{node.name}/bias")
            )
        return nodes

    replace_nodes(model, [item for node in model.graph.node for item in expanded(node)])


def with_initializer(model: Any, name: str, value: Any) -> str:  # noqa: ANN401
    """Add a constant; returns its name."""
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name


def replace_nodes(model: Any, nodes: list[Any]) -> None:  # noqa: ANN401
    """Set a graph's nodes, and drop initializers nobody reads any more."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    read = {name for node in copies for name in node.input} | {item.name for item in model.graph.output}
    read |= set[str]().union(*map(captured_names, copies))
    kept = [item for item in model.graph.initializer if item.name in read]
    if len(kept) < len(model.graph.initializer):
        tensors = [onnx.TensorProto.FromString(item.SerializeToString()) for item in kept]
        del model.graph.initializer[:]
        model.graph.initializer.extend(tensors)
