"""Every precision of every runtime: small as it should be, really so inside, run by the runtime, and close.

A convolutional network and a transformer; Core ML in the reference evaluator.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from converter.coreml_reference.loading import read_package
from converter.errors import RouteError
from converter.layers import Layer
from converter.passes.list_layers import layers_of
from converter.passes.tflite_layers import opened, operator_name
from converter.variants import Calibration, LayerRule, Options, Precision
from ota_contract.manifest import Runtime
from tests.converter.precision_cases import (
    Case,
    Made,
    answers,
    digits_case,
    encoder_case,
    made,
    precisions_of,
    size_of,
)
from tests.packages import made_once

MODELS = ("digits", "encoder")
ALL = [(runtime, precision) for runtime in Runtime for precision in precisions_of(runtime)]
_HALVES = {Precision.FP16, Precision.MIXED}
_BITS = {
    Precision.INT4_WEIGHTS: 6,  # a scale for each block, and eight bits where there is no kernel for four
    Precision.PALETTE6: 6,
    Precision.PALETTE4: 4,
    Precision.PALETTE3: 3,
    Precision.PALETTE2: 2,
    Precision.FP16: 16,
    Precision.MIXED: 16,
}
_OPERATOR_BYTES = 500
"""What an operator takes beside weights, its scales and names too: these models have many for their size."""
_OFF = {
    Precision.INT4_WEIGHTS: 0.3,
    Precision.PALETTE4: 0.2,
    Precision.PALETTE3: 0.4,
    Precision.PALETTE2: 0.7,
}
"""The root of the mean square error of probabilities, relative to their own; elsewhere a tenth."""


@pytest.fixture(scope="session")
def cases(session: Path, model: Path, package: Path) -> Mapping[str, Case]:
    with made_once(session, "precision-encoder") as (folder, there):
        encoder = encoder_case(folder, there=there)
    return {"digits": digits_case(model, package), "encoder": encoder}


@pytest.fixture(scope="session")
def floats(cases: Mapping[str, Case]) -> Mapping[tuple[str, Runtime], Any]:
    return {
        (name, runtime): answers(case, runtime, Made(file=case.files[runtime], facts={}))
        for name, case in cases.items()
        for runtime in Runtime
    }


def _id(value: Any) -> str:
    return value if isinstance(value, str) else str(value.value)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("runtime", "precision"), ALL, ids=_id)
def test_a_precision_is_small_real_and_close(
    cases: Mapping[str, Case],
    floats: Mapping[tuple[str, Runtime], Any],
    name: str,
    runtime: Runtime,
    precision: Precision,
    tmp_path: Path,
) -> None:
    case = cases[name]
    result = made(case, runtime, precision, tmp_path / "job")
    before, after = size_of(case.files[runtime]), size_of(result.file)
    weights = sum(layer.weight_bytes for layer in layers_of(case.files[runtime]))
    bits = _BITS.get(precision, 8) / (16 if runtime is Runtime.COREML else 32)
    kept = sum(_bytes(layers_of(case.files[runtime]), name) for name in result.facts["left_in_float"])
    assert after < before - (weights - kept) * (1 - bits) + _OPERATOR_BYTES * result.facts["operators"]
    _check_inside(runtime, precision, result)
    expected, got = floats[name, runtime], answers(case, runtime, result)
    off = np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2))
    assert off < (0.005 if precision in _HALVES else _OFF.get(precision, 0.1))
    assert (got.argmax(axis=-1) == expected.argmax(axis=-1)).mean() >= (0.8 if precision in _OFF else 0.95)


def _bytes(layers: tuple[Layer, ...], name: str) -> int:
    return next(layer.weight_bytes for layer in layers if layer.layer == name)


def _check_inside(runtime: Runtime, precision: Precision, result: Made) -> None:
    """What the file holds, read without the code that wrote it."""
    kinds = result.facts["kinds"]
    match runtime:
        case Runtime.ONNX:
            graph = onnx.load(result.file).graph
            types = {item.data_type for item in graph.initializer if len(item.dims) > 1}
            held = {node.op_type for node in graph.node}
            wanted = {
                Precision.INT8: "QuantizeLinear",
                Precision.INT8_DYNAMIC: "MatMulInteger",
                Precision.INT8_WEIGHTS: "MatMulNBits",
                Precision.INT4_WEIGHTS: "MatMulNBits",
            }
            assert precision in _HALVES or wanted[precision] in held
            assert precision not in _HALVES or onnx.TensorProto.FLOAT16 in types
            assert sum(kinds.values()) == len(graph.node)
        case Runtime.TFLITE:
            model = opened(result.file.read_bytes())
            types = {tensor.type for tensor in model.subgraphs[0].tensors}
            held = {operator_name(model, item) for item in model.subgraphs[0].operators}
            number = {Precision.FP16: 1, Precision.INT16X8: 7, Precision.INT4_WEIGHTS: 17}.get(precision, 9)
            assert number in types
            assert held == set(kinds)
        case Runtime.COREML:
            held = set(read_package(result.file).block.kinds())
            linear = "shift_scale" if precision is Precision.INT4_WEIGHTS else "affine_dequantize"
            wanted_kind = "lut_to_dense" if "palette" in precision.value else linear
            assert any(wanted_kind in kind for kind in held)
            assert (precision is Precision.INT8) == ("quantize" in held)


@pytest.mark.parametrize(
    ("runtime", "precision"),
    [
        (Runtime.ONNX, Precision.INT8),
        (Runtime.ONNX, Precision.INT8_DYNAMIC),
        (Runtime.ONNX, Precision.INT4_WEIGHTS),
        (Runtime.ONNX, Precision.MIXED),
        (Runtime.TFLITE, Precision.INT8),
        (Runtime.TFLITE, Precision.INT4_WEIGHTS),
        (Runtime.COREML, Precision.INT8),
        (Runtime.COREML, Precision.PALETTE4),
    ],
    ids=_id,
)
def test_two_runs_give_the_same_bytes(
    cases: Mapping[str, Case], runtime: Runtime, precision: Precision, tmp_path: Path
) -> None:
    folders = [made(cases["encoder"], runtime, precision, tmp_path / part).file for part in ("one", "two")]
    first, second = (
        {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(_files(root))}
        for root in folders
    )
    assert first == second


def _files(root: Path) -> list[Path]:
    return [root] if root.is_file() else [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("runtime", "precision"),
    [
        (Runtime.ONNX, Precision.INT8),
        (Runtime.ONNX, Precision.INT8_WEIGHTS),
        (Runtime.ONNX, Precision.FP16),
        (Runtime.TFLITE, Precision.INT8),
        (Runtime.TFLITE, Precision.INT8_WEIGHTS),
        (Runtime.COREML, Precision.INT8_WEIGHTS),
    ],
    ids=_id,
)
def test_a_rule_leaves_its_layer_in_float_and_no_other(
    cases: Mapping[str, Case], runtime: Runtime, precision: Precision, tmp_path: Path
) -> None:
    """Each weighted layer in turn: the rest is as it was without the rule, to the byte count."""
    case = cases["digits"]
    weighted = [layer for layer in layers_of(case.files[runtime]) if layer.weight_bytes]
    assert len(weighted) == 5
    plain = made(case, runtime, precision, tmp_path / "plain")
    assert plain.facts["left_in_float"] == []
    for index, layer in enumerate(weighted):
        escaped = "".join(f"[{letter}]" if letter in ".+*?;()" else letter for letter in layer.layer)
        rule = LayerRule(layer=escaped, precision=Precision.FP32)
        result = made(case, runtime, precision, tmp_path / str(index), rules=[rule])
        assert result.facts["left_in_float"] == [layer.layer]
        share = 0.5 if runtime is Runtime.COREML or precision is Precision.FP16 else 0.7
        assert size_of(result.file) - size_of(plain.file) > share * layer.weight_bytes - 1024


@pytest.mark.parametrize(
    ("runtime", "precision", "other"),
    [
        (Runtime.ONNX, Precision.INT8, Precision.INT4_WEIGHTS),
        (Runtime.TFLITE, Precision.INT4_WEIGHTS, Precision.INT8_WEIGHTS),
        (Runtime.COREML, Precision.PALETTE4, Precision.INT8_WEIGHTS),
    ],
    ids=_id,
)
def test_rules_mix_precisions(
    cases: Mapping[str, Case],
    floats: Mapping[tuple[str, Runtime], Any],
    runtime: Runtime,
    precision: Precision,
    other: Precision,
    tmp_path: Path,
) -> None:
    case = cases["digits"]
    heaviest = max(layers_of(case.files[runtime]), key=lambda layer: layer.weight_bytes)
    rule = LayerRule(op=heaviest.op, precision=other)
    plain = made(case, runtime, precision, tmp_path / "plain")
    result = made(case, runtime, precision, tmp_path / "mixed", rules=[rule])
    assert result.facts["left_in_float"] == []
    assert result.facts["kinds"] != plain.facts["kinds"] or size_of(result.file) != size_of(plain.file)
    got = answers(case, runtime, result)
    assert (got.argmax(axis=-1) == floats["digits", runtime].argmax(axis=-1)).mean() > 0.97


@pytest.mark.parametrize(
    ("runtime", "precision", "options", "message"),
    [
        (
            Runtime.ONNX,
            Precision.INT8,
            Options(rules=(LayerRule(op="Conv", precision=Precision.FP16),)),
            "fp16 cannot be mixed with integers in ONNX",
        ),
        (
            Runtime.ONNX,
            Precision.FP16,
            Options(rules=(LayerRule(op="Conv", precision=Precision.INT8),)),
            "int8 cannot be mixed with half floats",
        ),
        (
            Runtime.ONNX,
            Precision.INT4_WEIGHTS,
            Options(calibration=Calibration.ENTROPY),
            "`calibration` changes nothing: it is for int8, and no layer is of these",
        ),
        (
            Runtime.TFLITE,
            Precision.INT8,
            Options(rules=(LayerRule(op="CONV_2D", precision=Precision.PALETTE4),)),
            "TFLite has no palette4",
        ),
        (
            Runtime.TFLITE,
            Precision.INT4_WEIGHTS,
            Options(block_size=16),
            "TFLite has blocks of 32, 64, 128, 256 weights, none of 16",
        ),
        (
            Runtime.TFLITE,
            Precision.INT8,
            Options(rules=(LayerRule(op="CONV2D", precision=Precision.FP32),)),
            "no op of the model matches 'CONV2D'; near it are CONV_2D",
        ),
        (
            Runtime.COREML,
            Precision.PALETTE4,
            Options(rules=(LayerRule(op="conv", precision=Precision.INT16X8),)),
            "Core ML has no int16x8",
        ),
        (
            Runtime.COREML,
            Precision.PALETTE4,
            Options(block_size=32),
            "`block_size` changes nothing: it is for int4-weights, and no layer is of these",
        ),
    ],
)
def test_what_a_runtime_cannot_do_is_refused_by_name(
    cases: Mapping[str, Case],
    runtime: Runtime,
    precision: Precision,
    options: Options,
    message: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(RouteError) as caught:
        made(cases["digits"], runtime, precision, tmp_path / "job", options=options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
