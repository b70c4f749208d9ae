"""A source without its own normalisation gets the converter's, and answers the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_runtime.loading import load
from edge_runtime.package import open_package
from tests.converter.conftest import Ferry
from tests.converter.recipes import recipe_text, write_recipe

BY_CONVERTER = '{ operation = "affine", scale = 0.0625, offset = 0.0, by = "converter" }'


def test_folding_changes_no_answer(
    ferry: Ferry, tmp_path: Path, model: Path, package: Path, odd_models: Path
) -> None:
    text = recipe_text(
        model,
        source=odd_models / "unscaled.keras",
        preprocessing=BY_CONVERTER,
        variants=[("tflite", "fp32"), ("onnx", "fp32")],
    )
    assert ferry("convert", write_recipe(tmp_path, text), "-o", "folded").code == 0
    folded, _ = open_package(tmp_path / "folded")
    release, _ = open_package(package)
    assert folded.inputs[0].datatype is release.inputs[0].datatype
    assert folded.preprocessing == release.preprocessing
    with np.load(model / "field.npz") as archive:
        inputs = {"image": archive["image"][:40]}
    for variant_id in ("tflite-fp32", "onnx-fp32"):
        expected = load(release, release.variant(variant_id), package).run(inputs)["scores"]
        got = load(folded, folded.variant(variant_id), tmp_path / "folded").run(inputs)["scores"]
        np.testing.assert_allclose(got, expected, atol=1e-5)
