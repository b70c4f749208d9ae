"""Finds an operator that exporters write out in several.

Up to opset 19 GELU is Erf and four operators around it. TFLite has an operation for GELU and none for Erf,
which is spelt there as twenty.
"""

from __future__ import annotations

import math
from typing import Any, TypeGuard

from onnx import helper, numpy_helper

__all__ = ["with_gelu"]

_NEAR = 1e-4
_MOST = 4
"""Operators of a GELU between what is scaled and the last."""


def with_gelu(graph: Any) -> None:  # noqa: ANN401 - onnx publishes no types
    """Put `Gelu` in place of ½·x·(1 + erf(x/√2)), whatever the order of the factors.

    Nobody else may read what is in between. The operator is of opset 20, whatever the graph's is: this is for
    importers, not for runtimes. Operators nobody reads any more are left for them to drop.
    """
    for node in list(graph.node):
        if node.op_type == "Erf":
            _Search(graph).replace(node)


class _Search:
    """A graph as it is now: who makes and who reads what, and its numbers."""

    def __init__(self, graph: Any) -> None:  # noqa: ANN401
        self._graph = graph
        self._numbers = {
            item.name: float(numpy_helper.to_array(item).reshape(-1)[0])
            for item in graph.initializer
            if math.prod(item.dims) == 1 and len(item.dims) <= 1
        }
        self._makers = {name: node for node in graph.node for name in node.output}
        self._outputs = {item.name for item in graph.output}

    def replace(self, erf: Any) -> None:  # noqa: ANN401
        """Put a Gelu for the product an Erf ends in, if it is one."""
        source, last = self._scaled(erf.input[0]), self._reader(erf)
        if source is None or last is None or last.op_type != "Add":
            return
        if self._numbers.get(self._other(last, erf.output[0])) != 1.0:
            return
        between, factor, power = [erf, last], 1.0, 0
        while power != 1 or not math.isclose(factor, 0.5, rel_tol=_NEAR):
            before, last = last.output[0], self._reader(last)
            found = self._monomial(self._other(last, before), source) if _is_product(last) else None
            if found is None or power + found[1] > 1 or len(between) == _MOST:
                return
            between.append(last)
            factor, power = factor * found[0], power + found[1]
        self._put(source, between)

    def _scaled(self, name: str) -> str | None:
        """What a tensor is, divided by √2."""
        node = self._makers.get(name)
        if node is not None and node.op_type == "Div":
            divisor = self._numbers.get(node.input[1], math.nan)
            return node.input[0] if math.isclose(divisor, math.sqrt(2), rel_tol=_NEAR) else None
        if not _is_product(node):
            return None
        for one, other in (node.input, reversed(node.input)):
            if math.isclose(self._numbers.get(other, math.nan), math.sqrt(0.5), rel_tol=_NEAR):
                return str(one)
        return None

    def _monomial(self, name: str, source: str) -> tuple[float, int] | None:
        """A tensor as a number times a power of the source, 0 or 1."""
        if name == source:
            return 1.0, 1
        if name in self._numbers:
            return self._numbers[name], 0
        node = self._makers.get(name)
        if not _is_product(node) or source not in node.input:
            return None
        number = self._numbers.get(self._other(node, source))
        return None if number is None else (number, 1)

    def _reader(self, node: Any) -> Any:  # noqa: ANN401
        """The one node that reads a node's result."""
        name = node.output[0]
        readers = [other for other in self._graph.node if name in other.input]
        return readers[0] if len(readers) == 1 and name not in self._outputs else None

    def _other(self, node: Any, name: str) -> str:  # noqa: ANN401
        """The operand beside one."""
        first, second = node.input
        return str(second if first == name else first)

    def _put(self, source: str, between: list[Any]) -> None:
        last = between[-1]
        made = helper.make_node("Gelu", [source], [last.output[0]], name=last.name)
        gone = [node.output[0] for node in between[:-1]]
        nodes = [made if node is last else node for node in self._graph.node if node.output[0] not in gone]
        kept = [type(made).FromString(node.SerializeToString()) for node in nodes]
        del self._graph.node[:]
        self._graph.node.extend(kept)


def _is_product(node: Any) -> TypeGuard[Any]:  # noqa: ANN401
    return node is not None and node.op_type == "Mul"
