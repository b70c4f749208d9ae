"""Every family of models, from PyTorch and from Keras, answers in every runtime as in its framework.

The passes run as in conversions, but many in one process: a framework takes seconds to import. What
runs here are the runtimes of devices; Core ML programs were run by the reference evaluator.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter

from tests.converter.family_passes import SAMPLES
from tests.packages import REPOSITORY, made_once

pytestmark = pytest.mark.timeout(900)
"""The fixtures convert dozens of models; on a busy machine that takes minutes."""

FAMILIES = ("cnn", "mobile", "transformer", "lstm", "gru", "mlp")
FLOATS, HALVES = 2e-6, 2e-3
TORCH_ONES, KERAS_ONES = ("cnn-one", "lstm-one"), ("lstm-one",)


def _run(module: str, *arguments: str | Path) -> None:
    command = [sys.executable, "-m", f"tests.converter.{module}", *map(str, arguments)]
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
    }
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=REPOSITORY)


@pytest.fixture(scope="session")
def keras_models(session: Path) -> Path:
    """Keras models of every family with samples and answers."""
    with made_once(session, "keras-families") as (folder, there):
        if not there:
            _run("keras_families", folder)
    return folder


@pytest.fixture(scope="session")
def from_torch(session: Path, torch_models: Path) -> Path:
    """What the passes made of PyTorch's programs."""
    with made_once(session, "families-from-torch") as (folder, there):
        if not there:
            _run("family_passes", "torch", torch_models, folder)
            _run("family_passes", "onnx", torch_models, folder)
    return folder


@pytest.fixture(scope="session")
def from_keras(session: Path, keras_models: Path) -> Path:
    """What the passes made of Keras' models."""
    with made_once(session, "families-from-keras") as (folder, there):
        if not there:
            _run("family_passes", "keras", keras_models, folder)
    return folder


def _case(models: Path, name: str) -> tuple[Any, Any]:
    """Samples in the recipe's layout, and the framework's answers."""
    with np.load(models / f"{name.partition('-')[0]}.npz") as archive:
        samples, answers = archive["samples"], archive["answers"]
    if samples.ndim == 4 and samples.shape[1] == 3:
        samples = np.ascontiguousarray(samples.transpose(0, 2, 3, 1))
    assert answers.max() > 1.2 / answers.shape[1]  # an answer that says something
    return samples, answers


def _check_onnx(folder: Path, samples: Any, answers: Any, *, batches: tuple[int, ...]) -> None:
    assert not (folder / "refusal.txt").exists(), (folder / "refusal.txt").read_text()
    session = onnxruntime.InferenceSession(folder / "out" / "model.onnx")
    for batch in batches:
        (got,) = session.run(["y"], {"x": samples[:batch]})
        np.testing.assert_allclose(got, answers[:batch], atol=FLOATS)


def _check_tflite(folder: Path, samples: Any, answers: Any) -> None:
    facts = json.loads((folder / "facts.json").read_text())
    interpreter = Interpreter(str(folder / "out" / "model.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    inputs = {item["name"]: item for item in interpreter.get_input_details()}
    outputs = {item["name"]: item for item in interpreter.get_output_details()}
    fed, read = inputs[facts["inputs"]["x"]], outputs[facts["outputs"]["y"]]
    assert tuple(fed["shape"][1:]) == samples.shape[1:]
    for row in range(SAMPLES):
        interpreter.set_tensor(fed["index"], samples[row : row + 1])
        interpreter.invoke()
        np.testing.assert_allclose(interpreter.get_tensor(read["index"]), answers[row : row + 1], atol=FLOATS)


def _check_coreml(folder: Path, answers: Any) -> None:
    assert not (folder / "refusal.txt").exists(), (folder / "refusal.txt").read_text()
    with np.load(folder / "outputs.npz") as archive:
        np.testing.assert_allclose(archive["arr_0"], answers[:SAMPLES], atol=HALVES)


@pytest.mark.parametrize("name", [*(f"{family}-any" for family in FAMILIES), *TORCH_ONES])
def test_a_pytorch_program_answers_alike_everywhere(torch_models: Path, from_torch: Path, name: str) -> None:
    """Channels first inside, NHWC with unequal sides outside; LSTM, and GRU in both directions."""
    folder = from_torch / name
    samples, answers = _case(torch_models, name)
    _check_onnx(folder / "torch_to_onnx", samples, answers, batches=(1,) if name in TORCH_ONES else (1, 3))
    _check_coreml(folder / "onnx_to_coreml", answers)
    if name != "lstm-one":  # of a program of one sample the file is the same
        _check_tflite(folder / "torch_to_tflite", samples, answers)


@pytest.mark.parametrize("name", [*(f"{family}-any" for family in FAMILIES), *KERAS_ONES])
def test_a_keras_model_answers_alike_everywhere(keras_models: Path, from_keras: Path, name: str) -> None:
    folder = from_keras / name
    samples, answers = _case(keras_models, name)
    _check_onnx(folder / "keras_to_onnx", samples, answers, batches=(1,) if name in KERAS_ONES else (1, 3))
    _check_tflite(folder / "keras_to_tflite", samples, answers)
    _check_coreml(folder / "keras_to_coreml", answers)


def test_pytorch_needs_no_tensorflow_and_keras_no_pytorch(from_torch: Path, from_keras: Path) -> None:
    found = {
        name: json.loads((folder / f"{name}-modules.json").read_text())
        for name, folder in (("torch", from_torch), ("onnx", from_torch), ("keras", from_keras))
    }
    assert found == {
        "torch": ["torch"],
        "onnx": ["coremltools"],
        "keras": ["tensorflow", "keras", "coremltools"],
    }


def test_an_lstm_stays_one_operator_where_the_runtime_has_it(from_torch: Path, from_keras: Path) -> None:
    import onnx  # noqa: PLC0415 - one test needs it

    for folder in (from_torch / "lstm-any" / "torch_to_onnx", from_keras / "lstm-any" / "keras_to_onnx"):
        model = onnx.load(folder / "out" / "model.onnx")
        assert [node.op_type for node in model.graph.node].count("LSTM") == 1
