"""Writes ONNX models so that equal models are equal bytes, and reads what they hold.

Exporters number their nodes in the order of a set or a counter of the process. Names are replaced by
their position in a sorted graph; inputs, outputs and what graphs inside nodes know by name keep theirs.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from typing import Any

import onnx

from converter.passes.onnx_graphs import all_nodes, attribute_of, captured_names

__all__ = ["FILE", "canonical", "describe"]

FILE = "model.onnx"

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_INTEGER = ("MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv", "DynamicQuantizeLSTM")
_PACKED = ("MatMulNBits",)
_PRODUCER = "ferry"


def canonical(model: Any) -> bytes:  # noqa: ANN401 - onnx publishes no types
    """Rename and sort a model in place; returns its bytes.

    Raises:
        ValueError: The graph is not acyclic, or ONNX's checker refuses the result.
    """
    graph = model.graph
    kept = {item.name for item in graph.input} | {item.name for item in graph.output}
    captured = set[str]().union(*map(captured_names, graph.node))
    kept |= captured  # the graphs inside nodes know them by name
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
    _rename_initializers(graph, names, captured)
    domains = sorted(model.opset_import, key=lambda item: str(item.domain))
    del model.opset_import[:]
    model.opset_import.extend(domains)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def describe(model: Any) -> dict[str, Any]:  # noqa: ANN401
    """Facts of a model: tensor names, operators, quantized weights, versions it needs.

    `weighted_integer` counts operators whose arithmetic is in integers, `weighted_packed` those that
    compute in floats with weights stored in integers.
    """
    graph = model.graph
    dequantized = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    floats = [node for node in graph.node if node.op_type in _WEIGHTED]
    integer = [node for node in graph.node if node.op_type in _INTEGER]
    packed = [node for node in graph.node if node.op_type in _PACKED]
    unpacked = [node for node in floats if node.input[1] in dequantized]
    around = [node for node in unpacked if node.input[0] in dequantized]
    kinds = Counter(f"{node.domain}.{node.op_type}".removeprefix(".") for node in all_nodes(model))
    return {
        "inputs": {item.name: item.name for item in graph.input},
        "outputs": {item.name: item.name for item in graph.output},
        "operators": len(graph.node),
        "kinds": dict(sorted(kinds.items())),
        "weighted": len(floats) + len(integer) + len(packed),
        "weighted_integer": len(integer) + len(around),
        "weighted_packed": len(packed) + len(unpacked) - len(around),
        "bits": sorted({attribute_of(node, "bits") for node in packed}),
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
    rank[""] = -1
    lacking = [names - rank.keys() for names in _needed(graph)]
    users: dict[str, list[int]] = {}
    for index, names in enumerate(lacking):
        for name in names:
            users.setdefault(name, []).append(index)
    ready = [
        (_key(node, rank, content), index) for index, node in enumerate(graph.node) if not lacking[index]
    ]
    heapq.heapify(ready)
    while ready:
        node = graph.node[heapq.heappop(ready)[1]]
        made = [name for name in node.output if name]
        for name in made:
            rank[name] = len(rank)
        for user in dict.fromkeys(user for name in made for user in users.get(name, ())):
            lacking[user].difference_update(made)
            if not lacking[user]:
                heapq.heappush(ready, (_key(graph.node[user], rank, content), user))
        yield node
    if any(lacking):
        raise ValueError("the graph has a cycle or a missing tensor")


def _needed(graph: Any) -> Iterator[set[str]]:  # noqa: ANN401
    """What each node waits for; graphs inside it mention their own tensors, too."""
    around = {item.name for item in (*graph.input, *graph.initializer)}
    around.update(name for node in graph.node for name in node.output)
    for node in graph.node:
        yield {*node.input} | (captured_names(node) & around)


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
    number = 0
    for node in nodes:
        for name in [*node.input, *node.output]:
            if name and name not in kept and name not in names:
                letter = "w" if name in initializers else "t"
                while f"{letter}{number}" in kept:
                    number += 1
                names[name] = f"{letter}{number}"
                number += 1
    return names


def _rename_initializers(graph: Any, names: dict[str, str], captured: set[str]) -> None:  # noqa: ANN401
    used = [item for item in graph.initializer if item.name in names]
    for item in used:
        item.name = names[item.name]
        item.doc_string = ""
    used.sort(key=lambda item: int(item.name[1:]))
    used += sorted((item for item in graph.initializer if item.name in captured), key=lambda item: item.name)
    del graph.initializer[:]
    graph.initializer.extend(used)
