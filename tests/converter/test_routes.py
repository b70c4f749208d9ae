"""Routes are data: every variant the dialect can name is made, or refused by name."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest

from converter.errors import RouteError
from converter.plans import plan
from converter.recipe import Framework
from converter.routes import (
    KERAS,
    ONNX_SOURCE,
    PASSES,
    TORCH,
    Format,
    Node,
    Pass,
    check_installed,
    node_of,
    other_routes,
    route_to,
    source_node,
)
from converter.variants import Options, Precision, Target
from ota_contract.manifest import Runtime


def test_every_pass_has_its_module() -> None:
    for step in PASSES:
        assert importlib.util.find_spec(f"converter.passes.{step.code}") is not None


def test_integer_onnx_comes_from_float_onnx() -> None:
    target = Target(runtime=Runtime.ONNX, precision=Precision.INT8)
    from_keras = route_to(node_of(target), start=KERAS)
    assert [step.id for step in from_keras] == ["keras_to_onnx", "onnx_to_onnx_int8"]
    from_onnx = route_to(node_of(target), start=ONNX_SOURCE)
    assert [step.id for step in from_onnx] == ["onnx_to_onnx", "onnx_to_onnx_int8"]


def test_a_source_that_leads_nowhere_near_a_variant_is_refused() -> None:
    with pytest.raises(RouteError, match="no route from onnx-source-fp32 to keras-fp32"):
        route_to(KERAS, start=source_node(Framework.ONNX))


def test_core_ml_comes_from_the_source_where_it_can_and_through_onnx_else() -> None:
    target = node_of(Target(runtime=Runtime.COREML, precision=Precision.FP16))
    assert [step.id for step in route_to(target, start=KERAS)] == ["keras_to_coreml"]
    (other,) = other_routes(target, start=KERAS)
    assert [step.id for step in other] == ["keras_to_onnx", "onnx_to_coreml"]
    assert [step.id for step in route_to(target, start=ONNX_SOURCE)] == ["onnx_to_onnx", "onnx_to_coreml"]


def test_a_pytorch_program_goes_straight_to_tflite_and_through_onnx_to_core_ml() -> None:
    """And what its passes need is in an extra of its own."""
    for runtime, precision, passes in (
        (Runtime.ONNX, Precision.FP32, ["torch_to_onnx"]),
        (Runtime.TFLITE, Precision.FP32, ["torch_to_tflite"]),
        (Runtime.COREML, Precision.FP16, ["torch_to_onnx", "onnx_to_coreml"]),
    ):
        route = route_to(node_of(Target(runtime=runtime, precision=precision)), start=TORCH)
        assert [step.id for step in route] == passes
        assert route[0].extra == "torch"
        assert "tensorflow" in route[0].hides


def test_shared_passes_run_once_and_first() -> None:
    targets = [
        Target(runtime=Runtime.ONNX, precision=precision) for precision in (Precision.INT8, Precision.FP32)
    ]
    planned = plan(targets, start=KERAS)
    assert [(item.id, item.step.id, item.after) for item in planned] == [
        ("onnx-fp32", "keras_to_onnx", None),
        ("onnx-int8", "onnx_to_onnx_int8", "onnx-fp32"),
    ]


def test_variants_with_options_of_their_own_are_made_beside_one_another() -> None:
    plain = Target(runtime=Runtime.ONNX, precision=Precision.INT8)
    full = Target(
        runtime=Runtime.ONNX, precision=Precision.INT8, name="full", options=Options(reduce_range=False)
    )
    floats = Target(runtime=Runtime.ONNX, precision=Precision.FP32, name="floats")
    planned = {item.id: item for item in plan([plain, full, floats], start=KERAS)}
    assert {name: item.after for name, item in planned.items()} == {
        "floats": None, "onnx-int8": "floats", "full": "floats"
    }  # fmt: skip
    assert planned["onnx-int8"].params["reduce_range"] is True
    assert planned["full"].params["reduce_range"] is False


def test_every_precision_of_the_dialect_is_offered_by_a_runtime() -> None:
    offered: dict[Runtime, set[Precision]] = {}
    for step in PASSES:
        if step.target.format.runtime is not None:
            offered.setdefault(step.target.format.runtime, set()).add(step.target.precision)
    palettes = {precision for precision in Precision if precision.value.startswith("palette")}
    weights = {Precision.INT8_WEIGHTS, Precision.INT4_WEIGHTS}
    both = {Precision.FP32, Precision.FP16, Precision.INT8, Precision.INT8_DYNAMIC, *weights}
    assert offered == {
        Runtime.ONNX: both | {Precision.MIXED},
        Runtime.TFLITE: both | {Precision.INT16X8},
        Runtime.COREML: {Precision.FP32, Precision.FP16, Precision.INT8, *weights, *palettes},
    }


def test_an_option_a_pass_does_not_have_is_refused_by_name() -> None:
    target = Target(runtime=Runtime.ONNX, precision=Precision.FP32, options=Options(block_size=32))
    with pytest.raises(RouteError, match="onnx-fp32: keras_to_onnx has no option `block_size`; it has none"):
        plan([target], start=KERAS)


def test_a_variant_without_a_route_is_refused() -> None:
    with pytest.raises(
        RouteError, match="tflite-mixed: no route gives tflite in mixed; it comes in fp32, fp16"
    ):
        node_of(Target(runtime=Runtime.TFLITE, precision=Precision.MIXED))


def test_the_shortest_chain_wins_and_dead_ends_are_said() -> None:
    nodes = [Node(format=Format.ONNX, layout=str(index), precision=Precision.FP32) for index in range(4)]

    def step(source: Node, target: Node) -> Pass:
        return Pass(id=f"{source.layout}{target.layout}", source=source, target=target, needs=(), reason="")

    graph = [step(KERAS, nodes[0]), step(nodes[0], nodes[1]), step(nodes[1], nodes[2]), step(KERAS, nodes[2])]
    assert [item.id for item in route_to(nodes[2], start=KERAS, passes=graph)] == [f"{KERAS.layout}2"]
    others = other_routes(nodes[2], start=KERAS, passes=graph)
    assert [[item.id for item in chain] for chain in others] == [[f"{KERAS.layout}0", "01", "12"]]
    with pytest.raises(RouteError, match="no route"):
        route_to(nodes[3], start=KERAS, passes=graph)


def test_what_is_missing_is_named_before_anything_runs() -> None:
    absent = Pass(id="x", source=KERAS, target=KERAS, needs=("numpy", "no-such-package"), reason="")
    with pytest.raises(RouteError, match=r"x needs no-such-package: pip install 'edge-ferry\[keras\]'"):
        check_installed([absent])
    foreign = replace(absent, source=ONNX_SOURCE)
    with pytest.raises(RouteError, match=r"pip install 'edge-ferry\[converter\]'"):
        check_installed([foreign])
