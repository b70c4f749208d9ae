"""An ONNX file as a source: checked, cleaned, quantized and packed, without TensorFlow."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from converter.errors import PassError, Reason, SourceError
from converter.jobs import Job
from converter.passes.onnx_cleaning import folded
from converter.passes.onnx_source import MAX_OPSET, open_onnx
from converter.recipe import Overrides, load_recipe
from edge_runtime.loading import load
from edge_runtime.package import open_package
from ota_contract.manifest import VerificationStatus
from tests.converter.conftest import Ferry
from tests.converter.onnx_models import (
    CLASSES,
    IMAGES,
    SCALED,
    Graph,
    answers,
    cnn,
    encoder,
    image_case,
    mlp,
    recurrent,
    write_case,
)

CHANCE = np.random.default_rng(11)
VECTORS = CHANCE.normal(0, 1, (60, 7)).astype(np.float32)


def _open(recipe_path: Path) -> Any:
    job = Job(
        name="onnx_to_onnx",
        folder=recipe_path.parent,
        recipe_path=recipe_path,
        overrides=Overrides(),
        inputs={},
        params={},
    )
    return open_onnx(job, load_recipe(recipe_path))


def _case(folder: Path, model: Any, **changes: Any) -> Path:
    """A case over `mlp`'s data, whose file is then replaced by a model that could not answer."""
    path = write_case(folder, mlp(), VECTORS, **{"shape": (-1, 7), **changes})
    onnx.save(model, folder / "model.onnx")
    return path


def _refusal(recipe_path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        _open(recipe_path)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.usefixtures("without_tensorflow")
def test_an_image_model_becomes_float_and_integer_variants(ferry: Ferry, tmp_path: Path) -> None:
    """Pixels in NHWC go in; scaling and the change of layout are in the graph, also where H ≠ W."""
    recipe = image_case(tmp_path / "case", [("onnx", "fp32"), ("onnx", "int8")])
    done = ferry("convert", recipe, "-o", "package")
    assert done.code == 0, done.err
    release, _ = open_package(tmp_path / "package")
    assert release.source.framework == "onnx"
    assert {variant.verification.status for variant in release.variants} == {VerificationStatus.PASSED}
    how = release.variant("onnx-fp32").verification.how
    assert how.endswith("against the source in ONNX Runtime")
    error = release.variant("onnx-fp32").verification.max_abs_error
    assert error is not None
    assert error < 1e-5
    assert release.variant("onnx-fp32").requires.runtime_version == "1.12"
    got = load(release, release.variant("onnx-fp32"), tmp_path / "package").run({"x": IMAGES[:5]})["y"]
    (expected,) = answers(cnn(), {"x": SCALED[:5]})
    np.testing.assert_allclose(got, expected, atol=1e-6)
    again = ferry("convert", recipe, "-o", "again")
    assert again.code == 0
    first = (tmp_path / "package" / "variants" / "onnx-int8" / "model.onnx").read_bytes()
    assert (tmp_path / "again" / "variants" / "onnx-int8" / "model.onnx").read_bytes() == first


def test_a_fixed_batch_is_kept_and_a_dynamic_one_can_be_fixed(ferry: Ferry, tmp_path: Path) -> None:
    for name, batch in (("fixed", 1), ("dynamic", "n")):
        recipe = write_case(tmp_path / name, cnn(batch), SCALED, shape=(1, 3, 8, 6))
        assert ferry("convert", recipe, "-o", f"{name}-package").code == 0
        model = onnx.load(tmp_path / f"{name}-package" / "variants" / "onnx-fp32" / "model.onnx")
        assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 8, 6]
        assert not {"Shape", "Gather", "Concat"} & {node.op_type for node in model.graph.node}


def test_token_ids_are_cast_in_the_graph(ferry: Ferry, tmp_path: Path) -> None:
    tokens = CHANCE.integers(0, 11, (60, 5)).astype(np.int32)
    recipe = write_case(
        tmp_path / "case",
        encoder(),
        tokens,
        fed=tokens.astype(np.int64),
        shape=(-1, 5),
        datatype="INT32",
        preprocessing='{ operation = "cast", datatype = "INT64", by = "converter" }',
    )
    done = ferry("convert", recipe, "-o", "package")
    assert done.code == 0, done.err
    release, _ = open_package(tmp_path / "package")
    assert release.inputs[0].datatype.value == "INT32"


def test_a_cast_that_would_have_to_saturate_is_left_to_the_device(ferry: Ferry, tmp_path: Path) -> None:
    step = '{ operation = "cast", datatype = "INT32", by = "converter" }'
    recipe = write_case(tmp_path / "case", mlp(), VECTORS, shape=(-1, 7), preprocessing=step)
    done = ferry("convert", recipe, "-o", "package")
    assert done.code == 1
    assert 'the converter folds no cast from float32 to INT32; leave it to the "device"' in done.err


def test_the_plan_says_why_and_what_else_there_was(ferry: Ferry, tmp_path: Path) -> None:
    variants = [("onnx", "fp32"), ("onnx", "int8")]
    recipe = write_case(tmp_path / "case", mlp(), VECTORS, shape=(-1, 7), variants=variants)
    done = ferry("plan", recipe, "--json")
    rows = {row["variant"]: row for row in json.loads(done.out)}
    assert [step["id"] for step in rows["onnx-int8"]["passes"]] == ["onnx_to_onnx", "onnx_to_onnx_int8"]
    assert rows["onnx-int8"]["other_routes"] == []
    assert all(step["reason"] for step in rows["onnx-int8"]["passes"])


def test_weights_beside_the_model_are_read_and_are_part_of_its_digest(ferry: Ferry, tmp_path: Path) -> None:
    recipe = write_case(tmp_path / "case", mlp(), VECTORS, shape=(-1, 7))
    inside = _open(recipe)
    onnx.save(
        mlp(),
        tmp_path / "case" / "model.onnx",
        save_as_external_data=True,
        location="model.bin",
        size_threshold=0,
    )
    outside = _open(recipe)
    arrays = [numpy_helper.to_array(tensor) for tensor in outside.model.graph.initializer]
    for array, tensor in zip(arrays, inside.model.graph.initializer, strict=True):
        np.testing.assert_array_equal(array, numpy_helper.to_array(tensor))
    assert ferry("convert", recipe, "-o", "package").code == 0
    assert open_package(tmp_path / "package")[0].source.sha256 == outside.sha256
    weights = bytearray((tmp_path / "case" / "model.bin").read_bytes())
    weights[3] ^= 1
    (tmp_path / "case" / "model.bin").write_bytes(weights)
    assert _open(recipe).sha256 != outside.sha256
    (tmp_path / "case" / "model.bin").write_bytes(weights[:-1])
    assert "model.bin is cut short" in _refusal(recipe)
    (tmp_path / "case" / "model.bin").unlink()
    assert "'model.bin', which holds the weights of weights.0, is not there" in _refusal(recipe)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "C:\\secret", "link", ""])
def test_weights_outside_the_models_folder_are_not_read(tmp_path: Path, location: str) -> None:
    recipe = write_case(tmp_path / "case", mlp(), VECTORS, shape=(-1, 7))
    (tmp_path / "secret").write_bytes(bytes(10_000))
    (tmp_path / "case" / "link").symlink_to(tmp_path / "secret")
    model = mlp()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (tmp_path / "case" / "model.onnx").write_bytes(model.SerializeToString())
    assert "outside the model's folder; refused" in _refusal(recipe)


def _with_domain() -> Any:
    graph = Graph({"x": ("n", 7)})
    graph.nodes.append(
        helper.make_node("FusedMatMul", ["x", graph.weight(7, 4)], ["t"], domain="com.microsoft")
    )
    return graph.model({"y": ("t", ("n", CLASSES))}, domains=["com.microsoft"])


def _with_opset(version: int) -> Any:
    model = mlp()
    model.opset_import[0].version = version
    return model


def _half() -> Any:
    graph = Graph({"x": ("n", 7)})
    tensor = graph.add("Gemm", "x", graph.weight(7, CLASSES))
    model = graph.model({"y": (graph.add("Cast", tensor, to=TensorProto.FLOAT16), ("n", CLASSES))})
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (_with_domain(), "needs operators outside the ONNX standard: com.microsoft.FusedMatMul (1×)"),
        (_with_opset(MAX_OPSET + 1), f"of opset {MAX_OPSET + 1}; export it with one of 7 to {MAX_OPSET}"),
        (_with_opset(99), "of opset 99 (which this onnx does not know); export it"),
        (_with_opset(6), "of opset 6; export it with one of 7 to"),
        (_half(), "the model answers y as float16; outputs are FP32 in every variant"),
        (mlp(3), "lets dimension 0 of x be any, the model fixes it at 3; write 3, or export"),
        (cnn(), "the model's input x has shape [-1, 3, 8, 6], "),
    ],
    ids=["domain", "new", "newer", "old", "half", "batch", "shape"],
)
def test_a_model_that_does_not_fit_is_refused_by_name(tmp_path: Path, model: Any, says: str) -> None:
    assert says in _refusal(_case(tmp_path, model))


def test_a_layout_that_is_not_the_recipes_is_pointed_out(tmp_path: Path) -> None:
    recipe = write_case(
        tmp_path, cnn(), IMAGES, fed=SCALED, shape=(-1, 8, 6, 3), datatype="UINT8", layout="NHWC"
    )
    assert 'if it is channels first, write layout = "NCHW" into [source]' in _refusal(recipe)


def test_nan_among_the_weights_is_named(tmp_path: Path) -> None:
    model = mlp()
    weight = numpy_helper.to_array(model.graph.initializer[1]).copy()
    weight[2] = np.nan
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(weight, "dense/bias"))
    model.graph.node[1].input[1] = "dense/bias"
    with pytest.raises(PassError, match="weight dense/bias holds NaN or infinity") as caught:
        _open(_case(tmp_path, model))
    assert caught.value.reason is Reason.NOT_FINITE


def test_a_mask_of_minus_infinity_is_no_broken_weight(tmp_path: Path) -> None:
    graph = Graph({"x": ("n", 7)})
    tensor = graph.add("Gemm", "x", graph.weight(7, CLASSES))
    mask = graph.constant(np.array([0, 0, 0, -np.inf], np.float32))
    tensor = graph.add("Softmax", graph.add("Add", tensor, mask))
    assert _open(_case(tmp_path, graph.model({"y": (tensor, ("n", CLASSES))}))).matched


@pytest.mark.parametrize(
    "attack",
    ["truncated", "garbage", "pickle", "empty", "escaping", "nan", "shape", "operator", "folder"],
)
def test_bad_input_is_one_line_and_nothing_is_written(ferry: Ferry, tmp_path: Path, attack: str) -> None:
    recipe = write_case(tmp_path / "case", mlp(), VECTORS, shape=(-1, 8) if attack == "shape" else (-1, 7))
    if attack == "shape":  # the data agrees with the recipe, the model does not
        wide = np.concatenate([VECTORS, VECTORS[:, :1]], axis=1)
        for part, rows in (("evaluation", wide[:30]), ("calibration", wide[30:50]), ("golden", wide[50:])):
            np.savez(tmp_path / "case" / f"{part}.npz", x=rows, label=np.arange(len(rows)) % 2)
    source = tmp_path / "case" / "model.onnx"
    says = _attacked(source, attack)
    done = ferry("convert", recipe, "-o", "package")
    assert done.code == 1
    assert done.out == ""
    lines = [line for line in done.err.splitlines() if not line.startswith("[")]
    assert len(lines) == 1
    assert says in lines[0]
    assert not (tmp_path / "package").exists()
    assert not list((tmp_path / "scratch").iterdir())


def _attacked(source: Path, attack: str) -> str:
    """Do something to a good file; returns what the refusal must say."""
    model = onnx.load(source)
    first = model.graph.initializer[0]
    match attack:
        case "escaping":
            first.ClearField("raw_data")
            first.data_location = TensorProto.EXTERNAL
            first.external_data.add(key="location", value="../../etc/passwd")
        case "nan":
            array = numpy_helper.to_array(first).copy()
            array[0, 0] = np.inf
            first.CopyFrom(numpy_helper.from_array(array, first.name))
        case "operator":
            model.graph.node[0].op_type = "MatMull"
    contents = {
        "truncated": source.read_bytes()[:-100],
        "garbage": b"\x08\x08 I am a model",
        "pickle": pickle.dumps({"weights": [1]}),
        "empty": b"",
    }
    source.write_bytes(contents.get(attack, model.SerializeToString()))
    if attack == "folder":
        source.unlink()
        source.mkdir()
    return {
        "truncated": "model.onnx is not a readable ONNX file: damaged or cut short",
        "garbage": "model.onnx is not a",
        "pickle": "model.onnx is a pickle, which runs code when opened; it was not opened",
        "empty": "model.onnx is empty, not an ONNX file",
        "folder": "model.onnx is a folder; save the model as one file, and name that",
        "escaping": "outside the model's folder; refused",
        "nan": "weight weights.0 holds NaN or infinity; train the model again",
        "operator": "model.onnx is not a valid ONNX model: No Op registered for MatMull",
        "shape": "case/recipe.toml says x has [-1, 8]",
    }[attack]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory,
    content: bytes,
    appended: bool,  # noqa: FBT001
) -> None:
    folder = tmp_path_factory.mktemp("source")
    recipe = _case(folder, mlp())
    whole = mlp().SerializeToString()
    (folder / "model.onnx").write_bytes(whole[: len(whole) // 2] + content if appended else content)
    _refusal(recipe)


@pytest.mark.parametrize("opset", [13, 15, 18, 21])
def test_every_opset_within_bounds_is_taken(tmp_path: Path, opset: int) -> None:
    assert _open(_case(tmp_path, mlp(opset=opset))).model.opset_import[0].version == opset


def test_an_old_opset_is_raised(tmp_path: Path) -> None:
    graph = Graph({"x": ("n", 7)}, opset=9)
    tensor = graph.add(
        "Unsqueeze", graph.add("Gemm", "x", graph.weight(7, CLASSES), graph.weight(CLASSES)), axes=[1]
    )
    tensor = graph.add("Squeeze", tensor, axes=[1])
    model = graph.model({"y": (graph.add("Softmax", tensor), ("n", CLASSES))})
    raised = _open(_case(tmp_path, model)).model
    assert raised.opset_import[0].version == 13
    inputs = {"x": VECTORS[:3]}
    np.testing.assert_allclose(answers(raised, inputs)[0], answers(model, inputs)[0], atol=1e-6)


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (cnn(), {"x": SCALED[:3]}),
        (cnn(1), {"x": SCALED[:1]}),
        (encoder(), {"x": CHANCE.integers(0, 11, (3, 5))}),
        (recurrent("LSTM", "bidirectional"), {"x": VECTORS[:36].reshape(-1, 6, 3)[:2]}),
    ],
    ids=["cnn", "cnn-fixed", "encoder", "lstm"],
)
def test_folding_changes_no_answer(model: Any, inputs: dict[str, Any]) -> None:
    simple = folded(onnx.ModelProto.FromString(model.SerializeToString()))
    assert len(simple.graph.node) < len(model.graph.node)
    np.testing.assert_allclose(answers(simple, inputs)[0], answers(model, inputs)[0], atol=1e-6)


def test_a_known_branch_is_taken_and_a_huge_constant_is_not_made() -> None:
    graph = Graph({"x": (2, 3)})
    branches = {
        name: helper.make_graph(
            [helper.make_node(operator, ["x"], [f"{name}_out"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)],
        )
        for name, operator in (("then_branch", "Neg"), ("else_branch", "Exp"))
    }
    taken = graph.add("If", graph.constant(np.array([True])), **branches)
    huge = graph.add("ConstantOfShape", graph.constant(np.array([2, 3, 10**6], np.int64)))
    tensor = graph.add("Add", taken, graph.add("ReduceMax", huge, axes=[2], keepdims=0))
    simple = folded(graph.model({"y": (tensor, (2, 3))}))
    assert {node.op_type for node in simple.graph.node} >= {"Neg", "ConstantOfShape"}
    assert not {node.op_type for node in simple.graph.node} & {"If", "Exp"}
    assert len(simple.SerializeToString()) < 2000
