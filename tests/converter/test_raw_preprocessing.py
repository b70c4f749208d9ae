"""Recipes of photographs, text and sound: converted, judged and packed by the device's own executor."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.datasets import load_datasets
from converter.errors import DataError, RecipeError
from converter.recipe import load_recipe
from edge_runtime.golden_check import check_golden
from edge_runtime.loading import load
from edge_runtime.package import open_package
from edge_runtime.port import AnyArray
from edge_runtime.preprocessing import Preprocessing, prepare
from ota_contract.golden import parse_golden
from ota_contract.manifest import Release
from ota_contract.preprocessing_steps import Affine, Resize, Step, Transpose, WordPiece
from ota_contract.tensors import Datatype
from tests.converter.conftest import Ferry
from tests.converter.onnx_models import IMAGES, answers, cnn, write_case
from tests.converter.recipes import write_recipe
from tests.support.raw_package import VOCABULARY, photo, raw_model, raw_values

RECIPE = """\
[release]
publisher = "vision"
model = "raw"
version = "1.0.0"
counter = 1
license = "MIT"
labels = ["a", "b", "c", "d"]
[source]
framework = "onnx"
path = "model.onnx"
[[input]]
name = "photo"
datatype = "UINT8"
shape = [-1, 4, 6, 3]
layout = "NHWC"
raw_datatype = "BYTES"
raw_shape = [-1]
[[input.preprocessing]]
operation = "decode"
by = "device"
colour = "rgb"
[[input.preprocessing]]
operation = "resize"
by = "device"
height = 4
width = 6
filter = "bilinear"
antialias = true
mode = "cover"
[[input]]
name = "ids"
datatype = "INT64"
shape = [-1, 8]
[[input]]
name = "mask"
datatype = "INT64"
shape = [-1, 8]
[[input]]
name = "sound"
datatype = "FP32"
shape = [-1, 5, 5]
raw_datatype = "INT16"
raw_shape = [-1, 400]
[[input.preprocessing]]
operation = "log_mel"
by = "device"
sample_rate = 8000
frame_length = 128
frame_step = 64
fft_length = 128
mels = 5
f_min = 0.0
f_max = 4000.0
floor = 1e-6
[[raw]]
name = "text"
[[raw.preprocessing]]
operation = "wordpiece"
by = "device"
vocabulary = "vocab.txt"
casing = "uncased"
length = 8
input_ids = "ids"
attention_mask = "mask"
[[output]]
name = "scores"
datatype = "FP32"
shape = [-1, 4]
[data]
calibration = "calibration.npz"
evaluation = "evaluation.npz"
golden = "golden.npz"
[goal]
metric = "accuracy"
max_drop = 0.05
[[variant]]
runtime = "onnx"
precision = "fp32"
"""


def write_raw_case(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(raw_model())
    (folder / "vocab.txt").write_bytes(VOCABULARY)
    for part, low, high in (("evaluation", 0, 12), ("calibration", 12, 18), ("golden", 18, 21)):
        rows = [raw_values(seed) for seed in range(low, high)]
        arrays: dict[str, Any] = {
            "photo": np.array([row["photo"] for row in rows]),
            "text": np.array([row["text"] for row in rows]),
            "sound": np.concatenate([row["sound"] for row in rows]),
        }
        assert (arrays["photo"].dtype.kind, arrays["text"].dtype.kind) == ("S", "U")
        if part == "evaluation":
            arrays["label"] = np.ones(high - low, np.int64)
        np.savez(folder / f"{part}.npz", **arrays)
    return write_recipe(folder, RECIPE)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raw_case(tmp_path_factory.mktemp("raw"))


def test_it_is_converted_into_a_package_that_tests_itself(ferry: Ferry, case: Path, tmp_path: Path) -> None:
    outcome = ferry("convert", case, "-o", tmp_path / "package")
    assert outcome.code == 0, outcome.err
    release, _ = open_package(tmp_path / "package")
    (asset,) = release.assets
    assert asset.sha256 == hashlib.sha256(VOCABULARY).hexdigest()
    assert (tmp_path / "package" / asset.path).read_bytes() == VOCABULARY
    assert [(tensor.name, tensor.datatype.value) for tensor in release.raw_inputs] == [
        ("photo", "BYTES"),
        ("sound", "INT16"),
        ("text", "BYTES"),
    ]
    assert [spec.tolerance for spec in release.preprocessing] == [4.0, 1e-3, 0.0]
    shown = ferry("inspect", tmp_path / "package").out
    assert "takes photo BYTES [-1]: decode, resize\n" in shown
    assert "takes text BYTES [-1]: wordpiece → ids, mask\n" in shown
    assert "takes sound INT16 [-1, 400]: log_mel\n" in shown
    _check_golden(release, tmp_path / "package")


def _check_golden(release: Release, package: Path) -> None:
    """Raw values are the files and texts themselves; both levels pass; an app gets the same answers."""
    golden = (package / release.golden.file.path).read_bytes()
    vectors = parse_golden(golden)
    assert vectors[0].raw["photo"].elements() == (photo(18),)
    assert vectors[1].raw["text"].elements() == ("naïve hello".encode(),)
    variant = release.variants[0]
    model = load(release, variant, package)
    assert check_golden(model, release, variant, golden, folder=package) == 3
    tensors = Preprocessing.of_release(release, package).prepare(raw_values(19))
    wanted = np.frombuffer(vectors[1].outputs["scores"].data, np.float32)
    np.testing.assert_allclose(model.run(tensors)["scores"][0], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("found", "replaced", "message"),
    [
        ("length = 8\n", "", "raw[0].preprocessing[0].length: missing"),
        ("length = 8", "length = 9", "makes ids as INT64 of shape [-1, 9], the signature says"),
        ('"vocab.txt"', '"none.txt"', "raw[0].preprocessing[0].vocabulary"),
        ('"uncased"', '"lower"', "'lower' is none of uncased, cased"),
        ('input_ids = "ids"', 'input_ids = "tokens"', "names an input the signature lacks"),
        ('attention_mask = "mask"', 'attention_mask = "ids"', "are not distinct names"),
        ('name = "text"', 'name = "sound"', "a raw value by the name of another input, sound"),
        ('colour = "rgb"', 'colour = "rgba"', "'rgba' is none of rgb, bgr, gray"),
        ('colour = "rgb"', 'colour = "rgb"\nheight = 3', "decode has no such parameter; it has colour"),
        ('raw_datatype = "BYTES"', 'raw_datatype = "UINT8"', "BYTES, and nothing else, begin with one"),
        ("raw_shape = [-1]\n", "raw_shape = [-1, 4]\n", "BYTES have one axis"),
        ("antialias = true", "antialias = 1", "antialias: unexpected number"),
        ('"bilinear"\nantialias = true', '"lanczos"\nantialias = false', "defined with antialias only"),
        ("height = 4", "height = 5000", "height: 5000 is outside 1…4096"),
        ("f_max = 4000.0", "f_max = 4001.0", "do not lie in 0…4000"),
        ('"wordpiece"\nby = "device"', '"wordpiece"\nby = "source"', "no graph reads bytes"),
        ('"log_mel"\nby = "device"', '"log_mel"\nby = "converter"', "the converter folds"),
        ('"log_mel"', '"spectrum"', "'spectrum' is none of reshape"),
        ("floor = 1e-6", "floor = 0.0", "would have no logarithm"),
        ('name = "ids"\n', 'name = "ids"\nraw_shape = [1]\n', "is made by a tokenizer"),
    ],
)
def test_a_mistake_is_one_line(case: Path, tmp_path: Path, found: str, replaced: str, message: str) -> None:
    text = case.read_text()
    assert found in text
    (tmp_path / "vocab.txt").write_bytes(VOCABULARY)
    with pytest.raises(RecipeError) as caught:
        load_recipe(write_recipe(tmp_path, text.replace(found, replaced, 1)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_data_set_that_cannot_be_prepared_is_named(tmp_path: Path) -> None:
    write_raw_case(tmp_path)
    with np.load(tmp_path / "golden.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["photo"] = np.array([b"no image"] * 3)
    np.savez(tmp_path / "golden.npz", **arrays)
    recipe = load_recipe(tmp_path / "recipe.toml")
    from converter.passes.prepared import prepared  # noqa: PLC0415 - of passes

    with pytest.raises(DataError, match="golden set: raw input photo: no PNG or JPEG image"):
        prepared(recipe, load_datasets(recipe).golden)
    arrays["text"] = np.arange(3)
    np.savez(tmp_path / "golden.npz", **arrays)
    with pytest.raises(DataError, match="`text` is int64 of shape"):
        load_datasets(recipe)


def normalised(images: AnyArray) -> AnyArray:
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    wanted: AnyArray = ((images / 255 - mean) / std).astype(np.float32)
    return wanted.transpose(0, 3, 1, 2)


def test_channels_are_normalised_in_an_onnx_graph(ferry: Ferry, tmp_path: Path) -> None:
    """Mean and deviation per channel, by the converter, before the layout is changed to the source's NCHW."""
    steps = """{ operation = "normalise", by = "converter", scale = 0.00392156862745098,
        mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }"""
    path = write_case(
        tmp_path / "case",
        cnn(),
        IMAGES,
        fed=normalised(IMAGES),
        shape=(-1, 8, 6, 3),
        datatype="UINT8",
        layout="NHWC",
        source='layout = "NCHW"',
        preprocessing=steps.replace("\n       ", ""),
    )
    outcome = ferry("convert", path, "-o", tmp_path / "package")
    assert outcome.code == 0, outcome.err
    release, _ = open_package(tmp_path / "package")
    step = release.preprocessing[0].steps[0]
    assert isinstance(step, Affine)
    assert step.folded
    np.testing.assert_allclose(step.scale, 1 / 255 / np.array([0.229, 0.224, 0.225]))
    got = load(release, release.variants[0], tmp_path / "package").run({"x": IMAGES[:5]})["y"]
    np.testing.assert_allclose(got, answers(cnn(), {"x": normalised(IMAGES[:5])})[0], atol=1e-5)


NUMBERS = st.floats(-4, 4, width=32)


@st.composite
def affines(draw: st.DrawFn) -> Affine:
    axis = draw(st.sampled_from([-1, -2, -3]))
    channels = {-1: 3, -2: 4, -3: 2}[axis]

    def numbers() -> tuple[float, ...]:
        count = draw(st.sampled_from([1, channels]))
        return tuple(draw(st.lists(NUMBERS, min_size=count, max_size=count)))

    return Affine(scale=numbers(), offset=numbers(), axis=axis, folded=True)


def fitting(steps: list[Affine], order: tuple[int, ...], at: int) -> tuple[Step, ...]:
    """The steps with a change of layout among them; those behind it are of one number a tensor."""
    behind = [Affine(scale=step.scale[:1], offset=step.offset[:1], folded=True) for step in steps[at:]]
    return (*steps[:at], Transpose(axes=order, folded=True), *behind)


ORDERS = st.permutations([1, 2, 3]).map(lambda axes: (0, *axes))


@settings(max_examples=60, deadline=None)
@given(st.lists(affines(), min_size=1, max_size=3), ORDERS, st.integers(0, 3), st.integers(0, 99))
def test_folded_into_onnx_or_not_it_is_the_same(
    numbers: list[Affine], order: tuple[int, ...], at: int, seed: int
) -> None:
    """One graph with the steps in front, against the executor; sides, channels and batch all differ."""
    from converter.passes.onnx_preprocessing import with_signature  # noqa: PLC0415 - of passes
    from converter.passes.signature import Matched, MatchedInput  # noqa: PLC0415
    from converter.recipe import InputPlan  # noqa: PLC0415
    from ota_contract.preprocessing import InputSpec  # noqa: PLC0415
    from ota_contract.tensors import Tensor  # noqa: PLC0415

    shape = (5, 2, 4, 3)
    steps = fitting(numbers, order, at)
    made = tuple(shape[axis] for axis in order)
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, made)
    answer = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, made)
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [value], [answer])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    tensor = Tensor(name="image", datatype=Datatype.UINT8, shape=shape)
    matched = Matched(
        inputs=(
            MatchedInput(
                plan=InputPlan(tensor=tensor, converter_steps=steps),
                inner="x",
                dtype=np.dtype(np.float32),
                permutation=(),
                fixed_batch=True,
            ),
        ),
        outputs=((Tensor(name="answer", datatype=Datatype.FP32, shape=made), "y"),),
    )
    folded = onnxruntime.InferenceSession(
        with_signature(model, matched).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    images = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    done = tuple(replace(step, folded=False) for step in steps)
    spec = InputSpec(input="image", raw_datatype=Datatype.UINT8, raw_shape=shape, steps=done)
    wanted = prepare([spec], {"image": images})["image"]
    (got,) = folded.run(None, {"image": images})
    assert matched.inputs[0].plan.fed.shape == got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_steps_of_a_recipe_are_a_manifests(case: Path) -> None:
    recipe = load_recipe(case)
    kinds: list[Any] = [step for spec in recipe.preprocessing for step in spec.steps]
    (resize,) = [step for step in kinds if isinstance(step, Resize)]
    assert (resize.height, resize.width, resize.mode.value, resize.antialias) == (4, 6, "cover", True)
    (words,) = [step for step in kinds if isinstance(step, WordPiece)]
    assert recipe.vocabularies == {words.vocabulary: case.parent / "vocab.txt"}
    assert json.dumps(words.produces) == '["ids", "mask"]'
