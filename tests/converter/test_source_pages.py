"""The examples of the pages on scikit-learn and SavedModel sources run as they are printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from converter.recipe import load_recipe
from converter.skops_types import ESTIMATORS
from converter.source_file import check_source
from edge_runtime.package import open_package
from ota_contract.manifest import VerificationStatus
from tests.converter.conftest import Ferry
from tests.support.documentation import blocks


def _written(page: str, folder: Path) -> Path:
    """What the page's Python leaves behind, with its recipe; returns the recipe."""
    (program,) = blocks(page, "python")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run(
        [sys.executable, "-c", program], cwd=folder, check=True, capture_output=True, env=environment
    )
    (text,) = blocks(page, "toml")
    recipe = folder / "recipe.toml"
    recipe.write_text(text)
    return recipe


def test_the_scikit_learn_page_converts_its_forest(ferry: Ferry, tmp_path: Path) -> None:
    recipe = _written("docs/converting-sklearn.md", tmp_path)
    done = ferry("convert", recipe, "-o", "package")
    assert done.code == 0, done.err
    release, _ = open_package(tmp_path / "package")
    assert [variant.verification.status for variant in release.variants] == [VerificationStatus.PASSED] * 2


def test_the_saved_model_page_is_accepted_and_its_routes_are_as_it_says(ferry: Ferry, tmp_path: Path) -> None:
    recipe = _written("docs/converting-savedmodel.md", tmp_path)
    assert len(check_source(load_recipe(recipe))) == 64
    rows = {row["variant"]: row for row in json.loads(ferry("plan", recipe, "--json").out)}
    ways = {name: [step["id"] for step in row["passes"]] for name, row in rows.items()}
    assert ways == {
        "tflite-fp32": ["savedmodel_to_tflite"],
        "onnx-fp32": ["savedmodel_to_onnx"],
        "coreml-fp16": ["savedmodel_to_onnx", "onnx_to_coreml"],
    }


@pytest.mark.parametrize("module", sorted(ESTIMATORS))
def test_every_estimator_on_the_list_is_scikit_learns(module: str) -> None:
    """A name that scikit-learn moved would refuse every file of that estimator."""
    found = __import__(module, fromlist=["_"])
    assert [name for name in ESTIMATORS[module] if not hasattr(found, name)] == []
