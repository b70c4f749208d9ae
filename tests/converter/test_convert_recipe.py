"""The recipe dialect: strict, one line per mistake, relative to its own file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.errors import RecipeError
from converter.recipe import Limits, Overrides, load_recipe
from converter.variants import Calibration, LayerRule, Precision, Target, read_rules
from ota_contract.manifest import Runtime
from tests.converter.recipes import ALL_VARIANTS, recipe_text, write_recipe
from tests.packages import RECIPE, REPOSITORY

MODEL = Path("/m")


def _refusal(folder: Path, text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write_recipe(folder, text))
    message = str(caught.value)
    assert "\n" not in message
    return message.partition("recipe.toml: ")[2]


def test_the_digits_recipe_asks_for_every_variant() -> None:
    recipe = load_recipe(RECIPE)
    assert [target.id for target in recipe.targets] == [f"{runtime}-{kind}" for runtime, kind in ALL_VARIANTS]
    assert recipe.source == REPOSITORY / "build" / "digits-model" / "digits.keras"
    assert recipe.preprocessing[0].steps[0].folded
    assert not recipe.inputs[0].converter_steps
    assert recipe.limits == Limits(timeout_s=600.0, memory_bytes=4096 * 2**20)


def test_paths_are_relative_to_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "deep" / "down"
    folder.mkdir(parents=True)
    path = write_recipe(folder, recipe_text(Path("../sets")))
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(path.relative_to(tmp_path))
    assert recipe.source == Path("deep/sets/digits.keras")
    assert recipe.data.golden == Path("deep/sets/golden.npz")


def test_the_command_line_replaces_version_counter_source_and_data(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, recipe_text(MODEL))
    changed = Overrides(version="2.0.0-rc.1", counter=7, source=Path("other.keras"), data=Path("sets"))
    recipe = load_recipe(path, changed)
    assert (recipe.version, recipe.counter, recipe.source) == ("2.0.0-rc.1", 7, Path("other.keras"))
    assert recipe.data.evaluation == Path("sets/evaluation.npz")


def test_a_missing_recipe_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=r"^absent\.toml: No such file or directory$"):
        load_recipe(Path("absent.toml"))


@pytest.mark.parametrize(
    ("found", "replaced", "message"),
    [
        ('license = "CC-BY-4.0"', 'licence = "x"', "release.licence: unknown key; known are publisher,"),
        ("[goal]", "[goals]", "goals: unknown key; known are release, source, input,"),
        ('by = "source"', 'by = "me"', "input[0].preprocessing[0].by: 'me' is none of device, converter,"),
        ("counter = 1", "counter = 0", "release.counter: 0 is below 1"),
        ("counter = 1", 'counter = "1"', "release.counter: expected a whole number"),
        ("counter = 1", "counter = true", "release.counter: expected a whole number"),
        ("counter = 1", "", "release.counter: missing"),
        ("counter = 1", "counter = 1\nfloor = 2", "release.floor 2 is above the counter 1"),
        ('version = "1.0.0"', 'version = "1.0"', "version '1.0' is not"),
        ('publisher = "vision"', 'publisher = "Vision"', "publisher 'Vision'"),
        ('framework = "keras"', 'framework = "caffe"', "source.framework: 'caffe' is none of keras, onnx"),
        ('datatype = "UINT8"', 'datatype = "TEXT"', "input[0].datatype: 'TEXT' is none of"),
        ("shape = [-1, 10]", "shape = [0, 10]", "output[0].shape: use 1 to 8 lengths"),
        ('datatype = "FP32"', 'datatype = "FP16"', "output[0].datatype: outputs are FP32"),
        ("max_drop = 0.01", "max_drop = 1.5", "goal.max_drop: 1.5 is outside 0.0…1.0"),
        ("max_drop = 0.01", "max_drop = nan", "goal.max_drop: nan is outside"),
        ('metric = "accuracy"', 'metric = "mAP"', "goal.metric: 'mAP' is none of accuracy, top5_accuracy,"),
        ('precision = "fp32"', 'precision = "int4"', "variant[0].precision: 'int4' is none of fp32,"),
        ('runtime = "tflite"', "runtime = 3", "variant[0].runtime: expected text"),
        ("[[variant]]", "[[variants]]", "variants: unknown key"),
        ("[release]", "[release", "not TOML: "),
        ("scale = 0.0625, ", "", "input[0].preprocessing[0].scale: missing"),
    ],
)
def test_a_mistake_is_one_line_naming_the_key(
    tmp_path: Path, found: str, replaced: str, message: str
) -> None:
    text = recipe_text(MODEL)
    assert found in text
    assert _refusal(tmp_path, text.replace(found, replaced, 1)).startswith(message)


def test_a_variant_is_asked_for_once(tmp_path: Path) -> None:
    text = recipe_text(MODEL, variants=[("onnx", "fp32"), ("onnx", "fp32")])
    assert _refusal(tmp_path, text).startswith("variant[1].precision: onnx-fp32 is asked for twice; give one")


def test_a_device_step_cannot_follow_a_folded_one(tmp_path: Path) -> None:
    steps = (
        '{ operation = "affine", scale = 2.0, offset = 0.0, by = "source" },'
        '{ operation = "cast", datatype = "UINT8", by = "device" }'
    )
    message = _refusal(tmp_path, recipe_text(MODEL, preprocessing=steps))
    assert message == "input[0].preprocessing[1].by: a step by the device cannot follow one by the source"


def test_only_affine_steps_and_layouts_are_folded(tmp_path: Path) -> None:
    steps = '{ operation = "cast", datatype = "FP32", by = "converter" }'
    message = _refusal(tmp_path, recipe_text(MODEL, preprocessing=steps))
    assert message.startswith(
        'input[0].preprocessing[0].by: the converter folds "affine" and "transpose" steps only'
    )


def test_limits_are_read(tmp_path: Path) -> None:
    extra = "[limits]\ntimeout_s = 2.5\nmemory_mb = 300"
    recipe = load_recipe(write_recipe(tmp_path, recipe_text(MODEL, extra=extra)))
    assert recipe.limits == Limits(timeout_s=2.5, memory_bytes=300 * 2**20)


@given(st.sampled_from(list(Runtime)), st.sampled_from(list(Precision)))
def test_an_id_names_runtime_and_precision(runtime: Runtime, precision: Precision) -> None:
    assert Target(runtime=runtime, precision=precision).id == f"{runtime.value}-{precision.value}"


VARIANT = """[[variant]]
runtime = "onnx"
precision = "int8"
"""


def test_a_variant_says_how_its_precision_is_reached(tmp_path: Path) -> None:
    options = """id = "careful"
calibration = "entropy"
reduce_range = false
layers = [{ op = "Softmax", precision = "fp32" }, { layer = "block_1.*", precision = "fp16" }]
"""
    recipe = load_recipe(write_recipe(tmp_path, recipe_text(MODEL, variants=(), extra=VARIANT + options)))
    (target,) = recipe.targets
    assert target.id == "careful"
    assert (target.options.calibration, target.options.reduce_range) == (Calibration.ENTROPY, False)
    assert target.options.rules == (
        LayerRule(op="Softmax", precision=Precision.FP32),
        LayerRule(layer="block_1.*", precision=Precision.FP16),
    )
    assert read_rules(json.loads(json.dumps(target.options.params()))) == target.options.rules
    assert target.options.rules[1].matches(op="Conv", layer="block_12/conv")
    assert not target.options.rules[0].matches(op="LogSoftmax", layer="Softmax")


@pytest.mark.parametrize(
    ("options", "place", "why"),
    [
        ('layers = [{ precision = "fp32" }]', "layers[0].layer", "give either `op` or `layer`"),
        ('layers = [{ op = "(", precision = "fp32" }]', "layers[0].op", "not a regular expression"),
        ('id = "Big Name"', "id", "'Big Name': use lower-case letters"),
        ("block_size = 7", "block_size", "use one of 16"),
        ('reduce_range = "yes"', "reduce_range", "expected true or false"),
        ('candidates = ["int8"]', "candidates", 'only a variant of precision = "auto"'),
    ],
)
def test_options_outside_the_dialect_are_refused(tmp_path: Path, options: str, place: str, why: str) -> None:
    message = _refusal(tmp_path, recipe_text(MODEL, variants=(), extra=VARIANT + options))
    assert message.startswith(f"variant[0].{place}: {why}")


@given(key=st.from_regex(r"[a-z]{3,12}_x", fullmatch=True))
def test_any_unknown_key_is_refused(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    folder = tmp_path_factory.mktemp("recipe")
    message = _refusal(folder, recipe_text(MODEL, extra=f"{key} = 1"))
    assert message == f"goal.{key}: unknown key; known are metric, max_drop, confidence, tolerance, prefer"


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError):
        load_recipe(path)
