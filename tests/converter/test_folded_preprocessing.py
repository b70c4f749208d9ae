"""A source without its own normalisation gets the converter's, and answers the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_runtime.loading import load
from edge_runtime.package import open_package
from ota_contract.manifest import VerificationStatus
from tests.converter.conftest import Ferry
from tests.converter.recipes import recipe_text, write_recipe, write_tiny

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


CHANNELS = (
    '{ operation = "transpose", by = "converter", axes = [0, 2, 3, 1] }, '
    '{ operation = "normalise", by = "converter", scale = 0.00392156862745098, '
    "mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }"
)


def test_channels_are_normalised_each_by_its_own(ferry: Ferry, tmp_path: Path, odd_models: Path) -> None:
    """Layout, too: a device gives channels first, and Keras takes them last.

    The source gets what the executor computed, the variant computes it itself: parity is of the fold.
    """
    chance = np.random.default_rng(4)
    images = chance.integers(0, 256, (60, 3, 5, 7), dtype=np.uint8)
    recipe = write_tiny(
        tmp_path / "case",
        odd_models / "channels.keras",
        images,
        chance.integers(0, 4, 60),
        framework="keras",
        shape=(-1, 3, 5, 7),
        classes=4,
        datatype="UINT8",
        layout="NCHW",
        preprocessing=CHANNELS,
        variants=[("tflite", "fp32")],
        max_drop=1.0,
    )
    outcome = ferry("convert", recipe, "-o", "channels")
    assert outcome.code == 0, outcome.err
    release, _ = open_package(tmp_path / "channels")
    verification = release.variants[0].verification
    assert verification.status is VerificationStatus.PASSED
    assert verification.max_abs_error is not None
    assert verification.max_abs_error < 1e-5
    answers = load(release, release.variants[0], tmp_path / "channels").run({"x": images[:1]})["y"]
    other = load(release, release.variants[0], tmp_path / "channels").run({"x": images[:1, ::-1].copy()})
    assert np.abs(answers - other["y"]).max() > 1e-3
