"""Half floats in ONNX: what they cannot hold is named, and `mixed` keeps it out of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from converter.errors import PassError, Reason
from converter.passes.onnx_half_emulation import emulated
from converter.recipe import Overrides
from converter.variants import LayerRule, Precision
from ota_contract.manifest import Runtime
from tests.converter.onnx_models import CLASSES, Graph, write_case
from tests.converter.precision_cases import Case, Made, answers, made

VECTORS = np.random.default_rng(4).normal(0, 1, (60, 7)).astype(np.float32)


def _case(folder: Path, scale: float) -> Case:
    """A network with a factor in its middle that is taken away again."""
    graph = Graph({"x": ("n", 7)})
    tensor = graph.add("Relu", graph.add("MatMul", "x", graph.weight(7, 24, scale=1.0)))
    tensor = graph.add("Mul", tensor, graph.constant(np.float32(scale)))
    tensor = graph.add("Div", tensor, graph.constant(np.float32(scale)))
    tensor = graph.add("MatMul", tensor, graph.weight(24, CLASSES, scale=1.0))
    model = graph.model({"y": (graph.add("Softmax", tensor), ("n", CLASSES))})
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    recipe = write_case(folder, model, VECTORS, shape=(-1, 7))
    overrides = Overrides()
    return Case(recipe=recipe, overrides=overrides, files={Runtime.ONNX: folder / "model.onnx"})


def _types(result: Made) -> set[int]:
    return {item.data_type for item in onnx.load(result.file).graph.initializer if len(item.dims) > 1}


def test_values_half_floats_cannot_hold_are_refused_with_their_layers(tmp_path: Path) -> None:
    with pytest.raises(PassError) as caught:
        made(_case(tmp_path, 1e6), Runtime.ONNX, Precision.FP16, tmp_path / "job")
    assert caught.value.reason is Reason.NOT_FINITE
    assert caught.value.message == (
        "values beyond half floats' 65504 on the calibration set in n2, n3; ask for mixed"
    )


def test_mixed_keeps_such_layers_in_single_floats(tmp_path: Path) -> None:
    case = _case(tmp_path, 1e6)
    result = made(case, Runtime.ONNX, Precision.MIXED, tmp_path / "job")
    assert {"n2", "n3"} <= set(result.facts["kept_in_float"])
    assert result.facts["out_of_range"] == ["n2", "n3"]
    assert _types(result) == {TensorProto.FLOAT16}
    exact = answers(case, Runtime.ONNX, Made(file=case.files[Runtime.ONNX], facts={}))
    assert np.abs(answers(case, Runtime.ONNX, result) - exact).max() < 2e-3


def test_a_rule_can_keep_them_out_too(tmp_path: Path) -> None:
    rules = [LayerRule(layer="n2|n3", precision=Precision.FP32)]
    result = made(_case(tmp_path, 1e6), Runtime.ONNX, Precision.FP16, tmp_path / "job", rules=rules)
    assert result.facts["kept_in_float"] == ["n2", "n3"]


def test_values_too_small_for_half_floats_are_named(tmp_path: Path) -> None:
    result = made(_case(tmp_path, 1e-9), Runtime.ONNX, Precision.FP16, tmp_path / "job")
    assert result.facts["out_of_range"] == ["n2", "n3"]
    assert result.facts["kept_in_float"] == []


def test_mixed_keeps_what_loses_too_much(tmp_path: Path) -> None:
    """Two great numbers whose difference decides: each fits half floats, and their difference is lost."""
    graph = Graph({"x": ("n", 7)})
    great = graph.constant(np.full(7, 3000, np.float32))
    tensor = graph.add("Tanh", graph.add("MatMul", "x", graph.weight(7, 7)))
    tensor = graph.add("Sub", graph.add("Add", tensor, great), great)
    tensor = graph.add("MatMul", tensor, graph.weight(7, CLASSES, scale=1.0))
    model = graph.model({"y": (graph.add("Softmax", tensor), ("n", CLASSES))})
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    recipe = write_case(tmp_path, model, VECTORS, shape=(-1, 7))
    overrides = Overrides()
    case = Case(recipe=recipe, overrides=overrides, files={Runtime.ONNX: tmp_path / "model.onnx"})
    exact = answers(case, Runtime.ONNX, Made(file=case.files[Runtime.ONNX], facts={}))
    errors = {}
    for precision in (Precision.FP16, Precision.MIXED):
        result = made(case, Runtime.ONNX, precision, tmp_path / precision.value)
        errors[precision] = np.abs(answers(case, Runtime.ONNX, result) - exact).max()
        assert TensorProto.FLOAT16 in _types(result)
    assert result.facts["out_of_range"] == []
    assert {"n2", "n3"} <= set(result.facts["lossy"]) <= {"n1", "n2", "n3", "n4"}
    assert errors[Precision.MIXED] < 5e-3
    rounded = emulated(onnx.load(case.files[Runtime.ONNX]), set())
    onnx.save(rounded, tmp_path / "rounded.onnx")
    off = np.abs(answers(case, Runtime.ONNX, Made(file=tmp_path / "rounded.onnx", facts={})) - exact).max()
    assert off > 0.1
