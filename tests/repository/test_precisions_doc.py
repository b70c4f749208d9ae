"""docs/precisions.md: its variants are read, and its tables say what the routes give."""

from __future__ import annotations

import re
from pathlib import Path

from converter.recipe import load_recipe
from converter.routes import PASSES
from converter.variants import Calibration, Precision
from ota_contract.manifest import Runtime
from tests.converter.recipes import recipe_text
from tests.support.documentation import blocks

PAGE = "docs/precisions.md"
TEXT = (Path(__file__).parents[2] / PAGE).read_text(encoding="utf-8")
OFFERED = {
    (Runtime(step.target.format.value), step.target.precision)
    for step in PASSES
    if step.target.format.runtime is not None
}


def test_the_variants_are_read(tmp_path: Path) -> None:
    (variants,) = blocks(PAGE, "toml")
    (tmp_path / "recipe.toml").write_text(recipe_text(tmp_path, variants=()) + variants)
    first, second = load_recipe(tmp_path / "recipe.toml").targets
    assert first.options.calibration is Calibration.PERCENTILE
    assert [rule.precision for rule in first.options.rules] == [Precision.FP32, Precision.INT8_WEIGHTS]
    assert (second.precision, second.options.block_size) == (Precision.INT4_WEIGHTS, 32)


def test_the_table_says_which_runtime_has_which_precision() -> None:
    said = set()
    for precision in Precision:
        name = "palette8` … `palette2" if precision.value.startswith("palette") else precision.value
        cells = re.search(rf"^\| `{re.escape(name)}` \|(.*)\|(.*)\|(.*)\|$", TEXT, re.MULTILINE)
        assert cells is not None, precision
        runtimes = (Runtime.ONNX, Runtime.TFLITE, Runtime.COREML)
        said |= {
            (runtime, precision)
            for runtime, cell in zip(runtimes, cells.groups(), strict=True)
            if cell.strip() != "–"
        }
    assert said == OFFERED


def test_the_figures_cover_every_precision() -> None:
    rows = re.findall(r"^\| (onnx|tflite|coreml) \| ([a-z0-9-]+) \|", TEXT, re.MULTILINE)
    assert {(Runtime(runtime), Precision(precision)) for runtime, precision in rows} == OFFERED
