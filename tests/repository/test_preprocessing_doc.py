"""docs/preprocessing.md: its Python runs, its recipes are read, its bounds are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from converter.recipe import load_recipe
from ota_contract import preprocessing_steps as steps
from tests.support.documentation import blocks
from tests.support.raw_package import VOCABULARY

PAGE = "docs/preprocessing.md"
TEXT = (Path(__file__).parents[2] / PAGE).read_text(encoding="utf-8")
RECIPES = blocks(PAGE, "toml")
REST = """
[release]
publisher = "vision"
model = "m"
version = "1.0.0"
counter = 1
license = "MIT"
labels = ["a", "b"]
[source]
framework = "onnx"
path = "model.onnx"
[[output]]
name = "scores"
datatype = "FP32"
shape = [-1, 2]
[data]
calibration = "c.npz"
evaluation = "e.npz"
golden = "g.npz"
[goal]
metric = "accuracy"
max_drop = 0.01
[[variant]]
runtime = "onnx"
precision = "fp32"
"""


def test_there_is_a_recipe_for_images_tables_text_and_audio() -> None:
    assert len(RECIPES) == 4


@pytest.mark.parametrize("recipe", RECIPES, ids=["images", "tables", "text", "audio"])
def test_the_recipes_are_read(tmp_path: Path, recipe: str) -> None:
    (tmp_path / "vocab.txt").write_bytes(VOCABULARY)
    (tmp_path / "recipe.toml").write_text(recipe + REST)
    read = load_recipe(tmp_path / "recipe.toml")
    assert all(spec.steps for spec in read.preprocessing)


def test_the_python_runs() -> None:
    (code,) = blocks(PAGE, "python")
    exec(compile(code, PAGE, "exec"), {})  # noqa: S102 - our own page


def test_every_operation_and_parameter_is_named() -> None:
    for operation, parameters in steps.PARAMETERS.items():
        if operation in (steps.Operation.RESHAPE, steps.Operation.CAST, steps.Operation.TRANSPOSE):
            continue  # defined by the format's page in full
        assert f"`{operation.value}`" in TEXT
        for parameter in parameters:
            assert re.search(rf"\b{parameter}\b", TEXT), (operation, parameter)


def test_the_bounds_are_the_codes() -> None:
    mebi = 2**20
    assert f"| {steps.MAX_ENCODED_BYTES // mebi} MiB; other formats" in TEXT
    assert (steps.MAX_PIXELS, steps.MAX_SAMPLES) == (2**26, 2**24)
    assert steps.Decode(colour=steps.Colour.RGB).max_pixels == 2**25
    assert f"| a text | {steps.MAX_TEXT_BYTES // mebi} MiB" in TEXT
    assert f"| a vocabulary | {steps.MAX_VOCABULARY_BYTES // mebi} MiB, 500,000 entries |" in TEXT
