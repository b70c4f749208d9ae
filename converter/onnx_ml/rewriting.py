"""Rewrites a model without the operators of `ai.onnx.ml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import numpy_helper

from converter.errors import OperatorRefusedError
from converter.onnx_ml import features, linear, trees, vectors
from converter.onnx_ml.emitting import DOMAIN, Rewrite, Use
from converter.passes.onnx_graphs import captured_names

__all__ = ["DOMAIN", "REWRITES", "TREES", "plain", "plain_for", "uses_ml"]

TREES = trees.OPERATORS
"""Ensembles, which ONNX Runtime computes best as they are."""
_TYPED = 3
REWRITES: Mapping[str, Rewrite] = {**features.OPERATORS, **linear.OPERATORS, **vectors.OPERATORS, **TREES}


def uses_ml(model: Any) -> bool:  # noqa: ANN401 - onnx publishes no types
    """Whether an operator of `ai.onnx.ml` is in the main graph."""
    return any(node.domain == DOMAIN for node in model.graph.node)


def plain(model: Any, *, keep: frozenset[str] = frozenset(), strict: bool = True) -> Any:  # noqa: ANN401
    """A copy of a model in which operators of `ai.onnx.ml` are written out; what nobody reads is gone.

    Args:
        model: Of opset 13 or later.
        keep: Operators to leave as they are.
        strict: Whether an operator that cannot be written out is an error; else it stays.

    Raises:
        OperatorRefusedError: Naming the operator, and why.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    if not uses_ml(model):
        return model
    graph = model.graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    constants.update(_constants(graph))
    ranks = {name: array.ndim for name, array in constants.items()}
    opset = max(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    read = {item.name for item in graph.output}
    kept: list[Any] = []
    for number, node in reversed(list(enumerate(graph.node))):
        if not read.intersection(node.output):
            continue
        nodes = [node]
        if node.domain == DOMAIN and node.op_type not in keep:
            use = Use(node, number=number, opset=opset, constants=constants, ranks=ranks, read=read)
            nodes = _written(use, strict=strict)
            graph.initializer.extend(use.tensors if nodes[0] is not node else ())
        for item in reversed(nodes):
            read.update(item.input, captured_names(item))
            kept.append(item)
    del graph.node[:]
    graph.node.extend(kept[::-1])
    _drop_unread(model, read)
    return model


def plain_for(model: Any, target: str) -> Any:  # noqa: ANN401
    """The same, for a target that knows operators of `ai.onnx` alone.

    Raises:
        OperatorRefusedError: Naming the target too.
    """
    try:
        return plain(model)
    except OperatorRefusedError as error:
        raise OperatorRefusedError(f"cannot convert to {target}: {error}") from error


def _constants(graph: Any) -> dict[str, Any]:  # noqa: ANN401
    found = {}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def _written(use: Use, *, strict: bool) -> list[Any]:
    """The nodes in the operator's place."""
    rewrite = REWRITES.get(use.node.op_type)
    try:
        if rewrite is None:
            use.refuse("no equal among the operators of ai.onnx")
        made = rewrite(use)
    except OperatorRefusedError:
        if strict:
            raise
        return [use.node]
    for source, name in zip(made, use.node.output, strict=False):
        if source and name:
            use.nodes.append(onnx.helper.make_node("Identity", [source], [name]))
    return use.nodes


def _drop_unread(model: Any, read: set[str]) -> None:  # noqa: ANN401
    graph = model.graph
    used = [onnx.TensorProto.FromString(item.SerializeToString()) for item in graph.initializer]
    del graph.initializer[:]
    graph.initializer.extend(item for item in used if item.name in read)
    del graph.value_info[:]
    operators = {node.op_type for node in graph.node if node.domain == DOMAIN}
    domains = {node.domain for node in graph.node} | {""}
    versions = {item.domain: item.version for item in model.opset_import if item.domain in domains}
    if operators and operators <= TREES.keys():
        # The same ensembles, but onnx knows no type for their scores before.
        versions[DOMAIN] = max(versions[DOMAIN], _TYPED)
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(*item) for item in versions.items())
