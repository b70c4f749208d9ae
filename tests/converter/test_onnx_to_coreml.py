"""ONNX models become Core ML programs that answer the same, in the reference evaluator of MIL."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from converter.coreml_reference.runtime import load as load_coreml
from edge_runtime.loading import load
from edge_runtime.package import open_package
from tests.converter.conftest import Ferry
from tests.converter.onnx_families import MODELS, assert_agree, write_model
from tests.converter.onnx_models import (
    CLASSES,
    IMAGES,
    Graph,
    image_case,
    mlp,
    write_case,
)
from tests.packages import REPOSITORY, made_once

AGREEMENT = 4e-6


EXPORTED = (
    "keras-attention",
    "keras-bidirectional",
    "keras-convolution",
    "keras-gru",
    "keras-lstm",
    "sklearn-mlp",
)
REFUSED = {
    "keras-loop": "cannot convert to Core ML: op Loop (1 node: ",
    "sklearn-logistic": "cannot convert to Core ML: op ai.onnx.ml.LinearClassifier (1 node: ",
}


@pytest.fixture(scope="session")
def converted(session: Path) -> Path:
    """Every model above with its inputs, and what its Core ML program answers."""
    with made_once(session, "coreml-of-onnx") as (folder, there):
        if not there:
            folder.mkdir()
            for name, make in MODELS.items():
                write_model(folder / f"{name}.onnx", make())
            environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
            for script in ("exported_models", "coreml_answers"):
                command = [sys.executable, "-m", f"tests.converter.{script}", str(folder)]
                subprocess.run(command, check=True, capture_output=True, env=environment, cwd=REPOSITORY)
    return folder


@pytest.mark.parametrize("name", [*MODELS, *EXPORTED])
def test_a_program_answers_as_its_source(converted: Path, name: str) -> None:
    """The source's own framework beside MIL in FP32; unequal dimensions, both directions, initial states."""
    assert_agree(converted, name, within=AGREEMENT)


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_equal_is_refused_by_name(converted: Path, name: str) -> None:
    assert (converted / f"{name}.refusal.txt").read_text().startswith(REFUSED[name])
    assert not (converted / f"{name}.outputs.npz").exists()


def test_an_image_model_becomes_a_core_ml_package(ferry: Ferry, tmp_path: Path) -> None:
    """The whole way: pixels in NHWC, channels first inside, half floats; run twice, the same bytes."""
    every = [("onnx", "fp32"), ("onnx", "int8"), ("coreml", "fp16")]
    for name, variants in (("package", every), ("again", every[2:])):
        recipe = image_case(tmp_path / "case", variants)
        done = ferry("convert", recipe, "-o", name)
        assert done.code == 0, done.err
    folder = tmp_path / "package"
    release, _ = open_package(folder)
    assert {variant.id for variant in release.variants} == {"onnx-fp32", "onnx-int8", "coreml-fp16"}
    program = load_coreml(release, release.variant("coreml-fp16"), folder, 1)
    device = load(release, release.variant("onnx-fp32"), folder)
    for row in range(4):
        pixels = {"x": IMAGES[row : row + 1]}
        np.testing.assert_allclose(program.run(pixels)["y"], device.run(pixels)["y"], atol=5e-3)
    for file in release.variant("coreml-fp16").files:
        assert (folder / file.path).read_bytes() == (tmp_path / "again" / file.path).read_bytes()


def test_an_operator_core_ml_lacks_ends_the_conversion_in_one_line(ferry: Ferry, tmp_path: Path) -> None:
    graph = Graph({"x": ("n", 7)})
    scores = graph.add("Gemm", "x", graph.weight(7, CLASSES))
    table = np.random.default_rng(1).normal(0, 1, (60, 7)).astype(np.float32)
    recipe = write_case(tmp_path / "case", mlp(), table, shape=(-1, 7), variants=[("coreml", "fp16")])
    square = graph.add("Reshape", scores, graph.constant(np.array([-1, 2, 2])))
    extra = graph.add("Unsqueeze", graph.add("Det", square), graph.constant(np.array([1])))
    odd = graph.model({"y": (graph.add("Add", scores, extra), ("n", CLASSES))})
    onnx.save(odd, tmp_path / "case" / "model.onnx")
    done = ferry("convert", recipe, "-o", "package")
    assert done.code == 1
    lines = [line for line in done.err.splitlines() if not line.startswith("[")]
    assert len(lines) == 1
    assert "cannot convert to Core ML: op Det (1 node: n" in lines[0]
    assert not (tmp_path / "package").exists()
