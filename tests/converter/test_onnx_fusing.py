"""GELU is found in whatever way exporters write it out, and nothing else is taken for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from converter.onnx_importing.fusing import with_gelu
from tests.converter.onnx_models import Graph, answers

X = np.random.default_rng(3).normal(0, 2, (2, 5)).astype(np.float32)
ROOT = float(np.sqrt(2))


def _number(graph: Graph, value: float) -> str:
    return graph.constant(np.float32(value))


def _raised(graph: Graph, source: str) -> str:
    erf = graph.add("Erf", graph.add("Div", source, _number(graph, ROOT)))
    return graph.add("Add", erf, _number(graph, 1))


def _pytorch(graph: Graph) -> str:
    product = graph.add("Mul", "x", _raised(graph, "x"))
    return graph.add("Mul", product, _number(graph, 0.5))


def _keras(graph: Graph) -> str:
    erf = graph.add("Erf", graph.add("Mul", _number(graph, np.sqrt(0.5)), "x"))
    raised = graph.add("Add", _number(graph, 1), erf)
    return graph.add("Mul", graph.add("Mul", _number(graph, 0.5), "x"), raised)


def _half_first(graph: Graph) -> str:
    return graph.add("Mul", "x", graph.add("Mul", _raised(graph, "x"), _number(graph, 0.5)))


def _another_factor(graph: Graph) -> str:
    return graph.add("Mul", graph.add("Mul", "x", _raised(graph, "x")), _number(graph, 0.25))


def _another_root(graph: Graph) -> str:
    raised = graph.add("Add", graph.add("Erf", graph.add("Div", "x", _number(graph, 1.5))), _number(graph, 1))
    return graph.add("Mul", graph.add("Mul", "x", raised), _number(graph, 0.5))


def _another_source(graph: Graph) -> str:
    product = graph.add("Mul", graph.add("Neg", "x"), _raised(graph, "x"))
    return graph.add("Mul", product, _number(graph, 0.5))


def _read_elsewhere(graph: Graph) -> str:
    raised = _raised(graph, "x")
    whole = graph.add("Mul", graph.add("Mul", "x", raised), _number(graph, 0.5))
    return graph.add("Add", whole, raised)


def _a_square(graph: Graph) -> str:
    product = graph.add("Mul", graph.add("Mul", "x", _raised(graph, "x")), "x")
    return graph.add("Mul", product, _number(graph, 0.5))


def _fused(make: Callable[[Graph], str]) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    graph = Graph({"x": (2, 5)}, opset=20)
    model = graph.model({"y": (make(graph), (2, 5))})
    fused = onnx.ModelProto.FromString(model.SerializeToString())
    with_gelu(fused.graph)
    return model, fused


@pytest.mark.parametrize("make", [_pytorch, _keras, _half_first])
def test_gelu_is_found(make: Callable[[Graph], str]) -> None:
    model, fused = _fused(make)
    kinds = Counter(node.op_type for node in fused.graph.node)
    assert kinds["Gelu"] == 1
    assert not kinds["Erf"]
    np.testing.assert_allclose(answers(fused, {"x": X})[0], answers(model, {"x": X})[0], atol=1e-6)


@pytest.mark.parametrize(
    "make", [_another_factor, _another_root, _another_source, _read_elsewhere, _a_square]
)
def test_what_is_no_gelu_stays(make: Callable[[Graph], str]) -> None:
    model, fused = _fused(make)
    assert fused == model
