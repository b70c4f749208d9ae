"""The recorded command tells what was typed, and nothing of the machine."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from converter.plans import plan
from converter.recipe import load_recipe
from converter.routes import KERAS
from converter.toolchain import command_line, toolchain
from tests.packages import RECIPE


def test_relative_paths_stay_and_absolute_ones_lose_their_folders() -> None:
    words = ["ferry", "convert", "models/digits/recipe.toml", "--source", "/somebody/private/x.keras"]
    assert command_line(words) == "ferry convert models/digits/recipe.toml --source x.keras"


@given(st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), max_size=400))
def test_a_command_fits_the_manifest(words: list[str]) -> None:
    assert len(command_line(words)) <= 256


def test_every_tool_of_the_routes_is_recorded() -> None:
    recipe = load_recipe(RECIPE)
    entries = dict(toolchain(recipe, [item.step for item in plan(recipe.targets, start=KERAS)], "typed"))
    tools = {"tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "coremltools", "ai-edge-litert"}
    assert tools <= entries.keys()
    assert entries["recipe_sha256"] == recipe.sha256
    assert entries["command"] == "typed"
    assert "unknown" not in entries.values()
