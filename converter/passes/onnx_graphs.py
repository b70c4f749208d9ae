"""Walks over an ONNX model: nodes, tensors and names, those of graphs inside nodes too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["all_nodes", "all_tensors", "attribute_of", "captured_names", "subgraphs_of"]

_MAX_DEPTH = 16


def all_nodes(model: Any) -> Iterator[Any]:  # noqa: ANN401 - onnx publishes no types
    """Every node of a model, of its functions and of the graphs inside nodes.

    Raises:
        RecursionError: Graphs are nested too deep.
    """
    for graph in (model.graph, *model.functions):
        yield from _nodes(graph, 0)


def all_tensors(model: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Every weight and constant, with its name where it has one."""
    for tensor in model.graph.initializer:
        yield tensor.name, tensor
    for node in all_nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t.name or node.name, attribute.t
            for tensor in attribute.tensors:
                yield tensor.name or node.name, tensor
        for graph in subgraphs_of(node):
            for tensor in graph.initializer:
                yield tensor.name, tensor


def subgraphs_of(node: Any) -> Iterator[Any]:  # noqa: ANN401
    """The graphs directly inside a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def captured_names(node: Any) -> set[str]:  # noqa: ANN401
    """What the graphs inside a node may take from around it: every name they mention."""
    names: set[str] = set()
    for graph in subgraphs_of(node):
        for inner in _nodes(graph, 0):
            names.update((*inner.input, *inner.output))
        names.update(item.name for item in graph.output)
    return names - {""}


def attribute_of(node: Any, name: str, default: Any = None) -> Any:  # noqa: ANN401
    """The value of a node's attribute."""
    from onnx import helper  # noqa: PLC0415 - the rest works on anything shaped like a model

    found = next((item for item in node.attribute if item.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def _nodes(graph: Any, depth: int) -> Iterator[Any]:  # noqa: ANN401
    if depth > _MAX_DEPTH:
        raise RecursionError
    for node in graph.node:
        yield node
        for inner in subgraphs_of(node):
            yield from _nodes(inner, depth + 1)
