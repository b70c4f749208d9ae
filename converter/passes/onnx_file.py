"""Writes ONNX models so that equal models are equal bytes, and reads what they hold.

Exporters number their nodes in the order of a set or a counter of the process. Names are replaced by
their position in a sorted graph; inputs and outputs keep theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx

__all__ = ["canonical", "describe"]

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_PRODUCER = "ferry"


def canonical(model: Any) -> bytes:  # noqa: ANN401 - onnx publishes no types
    """Rename and sort a model in place; returns its bytes.

    Raises:
        ValueError: The graph is not acyclic, or ONNX's checker refuses the result.
    """
    graph = model.graph
    kept = {item.name for item in graph.input} | {item.name for item in graph.output}
    del graph.value_info[:]
    model.producer_name, model.producer_version, model.doc_string = _PRODUCER, "", ""
    del model.metadata_props[:]
    graph.name = "model"
    graph.doc_string = ""
    nodes = list(_sorted_nodes(graph))
    names = _numbered(graph, nodes, kept)
    del graph.node[:]
    for index, node in enumerate(nodes):
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        node.name = f"n{index}"
        node.doc_string = ""
        attributes = sorted(node.attribute, key=lambda attribute: str(attribute.name))
        del node.attribute[:]
        node.attribute.extend(attributes)
        graph.node.append(node)
    _rename_initializers(graph, names)
    domains = sorted(model.opset_import, key=lambda item: str(item.domain))
    del model.opset_import[:]
    model.opset_import.extend(domains)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def describe(model: Any) -> dict[str, Any]:  # noqa: ANN401
    """Facts of a model: tensor names, operators, quantized weights, versions it needs."""
    graph = model.graph
    dequantized = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    weighted = [node for node in graph.node if node.op_type in _WEIGHTED]
    return {
        "inputs": {item.name: item.name for item in graph.input},
        "outputs": {item.name: item.name for item in graph.output},
        "operators": len(graph.node),
        "weighted": len(weighted),
        "weighted_integer": sum(
            node.input[0] in dequantized and node.input[1] in dequantized for node in weighted
        ),
        "opset": max(item.version for item in model.opset_import if item.domain in ("", "ai.onnx")),
        "ir": model.ir_version,
    }


def _sorted_nodes(graph: Any) -> Iterator[Any]:  # noqa: ANN401
    """Nodes in topological order; among those ready, by what they do and to what, never by name."""
    rank = {item.name: index for index, item in enumerate(graph.input)}
    content = {item.name: item.SerializeToString(deterministic=True) for item in graph.initializer}
    for name, data in content.items():
        rank.setdefault(name, -1)
        content[name] = data.replace(name.encode(), b"")
    pending = list(graph.node)
    rank[""] = -1
    while pending:
        ready = [node for node in pending if all(name in rank for name in node.input)]
        if not ready:
            raise ValueError("the graph has a cycle or a missing tensor")
        node = min(ready, key=lambda item: _key(item, rank, content))
        pending.remove(node)
        for name in node.output:
            rank[name] = len(rank)
        yield node


def _key(node: Any, rank: dict[str, int], content: dict[str, bytes]) -> tuple[Any, ...]:  # noqa: ANN401
    attributes = sorted(item.SerializeToString(deterministic=True) for item in node.attribute)
    return (
        [rank[name] for name in node.input],
        str(node.op_type),
        attributes,
        [content.get(name, b"") for name in node.input],
    )


def _numbered(graph: Any, nodes: list[Any], kept: set[str]) -> dict[str, str]:  # noqa: ANN401
    initializers = {item.name for item in graph.initializer}
    names: dict[str, str] = {}
    for node in nodes:
        for name in [*node.input, *node.output]:
            if name and name not in kept and name not in names:
                letter = "w" if name in initializers else "t"
                names[name] = f"{letter}{len(names)}"
    return names


def _rename_initializers(graph: Any, names: dict[str, str]) -> None:  # noqa: ANN401
    used = [item for item in graph.initializer if item.name in names]
    for item in used:
        item.name = names[item.name]
        item.doc_string = ""
    used.sort(key=lambda item: int(item.name[1:]))
    del graph.initializer[:]
    graph.initializer.extend(used)
