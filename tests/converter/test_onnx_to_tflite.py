"""ONNX models become TFLite files that answer the same in LiteRT, and no TensorFlow has a part in it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter

from edge_runtime.loading import load
from edge_runtime.package import open_package
from ota_contract.manifest import VerificationStatus
from tests.converter.conftest import Ferry
from tests.converter.import_trap import trap_imports
from tests.converter.onnx_families import MODELS, assert_agree, write_model
from tests.converter.onnx_models import (
    CLASSES,
    IMAGES,
    SCALED,
    Graph,
    answers,
    cnn,
    image_case,
    mlp,
    write_case,
)
from tests.packages import REPOSITORY, made_once

AGREEMENT = 4e-6
CONVERTED = (
    "cnn",
    "mobile",
    "mlp",
    "encoder",
    "LSTM-forward",
    "LSTM-bidirectional",
    "GRU-reverse",
    "GRU-bidirectional",
    "LSTM-states",
    "GRU-states",
    "answers",
)
"""One of each kind; every further one is a second or two of litert_torch's time."""
REFUSED = {
    "det": "cannot convert to TFLite: op Det (1 node: n",
    "peepholes": "cannot convert to TFLite: op LSTM (y): peepholes",
    "indices": "cannot convert to TFLite: op MaxPool (/MaxPool_0_0): its indices are used",
}


def _refused_models() -> dict[str, onnx.ModelProto]:
    det = Graph({"x": (1, 2, 2)})
    det.add("Det", "x")
    det.nodes[-1].name = "n"
    sequence = Graph({"x": (6, 1, 3)})
    weights = [sequence.weight(1, 16, 3), sequence.weight(1, 16, 4), sequence.weight(1, 32)]
    sequence.add("LSTM", "x", *weights, "", "", "", sequence.weight(1, 12), hidden_size=4)
    pooled = Graph({"x": (1, 3, 8, 6)})
    pooled.add("MaxPool", "x", kernel_shape=[2, 2], outputs=2)
    places = pooled.add("Cast", pooled.nodes[-1].output[1], to=onnx.TensorProto.FLOAT)
    return {
        "det": det.model({"y": (det.nodes[-1].output[0], (1,))}),
        "peepholes": sequence.model({"y": (sequence.nodes[-1].output[0], (6, 1, 1, 4))}),
        "indices": pooled.model({"y": (places, (1, 3, 7, 5))}),
    }


@pytest.fixture(scope="session")
def converted(session: Path) -> Path:
    """Models with their inputs, and what their TFLite files answer."""
    with made_once(session, "tflite-of-onnx") as (folder, there):
        if not there:
            folder.mkdir()
            for name in CONVERTED:
                write_model(folder / f"{name}.onnx", MODELS[name]())
            for name, model in _refused_models().items():
                onnx.save(model, folder / f"{name}.onnx")
                shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
                np.savez(folder / f"{name}.inputs.npz", x=np.zeros(shape, np.float32))
            command = [sys.executable, "-m", "tests.converter.tflite_answers", str(folder)]
            subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY)
    return folder


@pytest.mark.parametrize("name", CONVERTED)
def test_a_file_answers_as_its_source(converted: Path, name: str) -> None:
    """ONNX Runtime beside LiteRT: H ≠ W, both directions, initial states, several outputs."""
    assert_agree(converted, name, within=AGREEMENT)


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_equal_is_refused_by_name(converted: Path, name: str) -> None:
    assert (converted / f"{name}.refusal.txt").read_text().startswith(REFUSED[name])
    assert not (converted / f"{name}.outputs.npz").exists()


def test_an_image_model_becomes_a_tflite_file(
    ferry: Ferry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: pixels in NHWC, channels first inside, H ≠ W; run twice, the same bytes."""
    trap_imports(tmp_path, monkeypatch, ("tensorflow", "keras", "tf2onnx"))
    recipe = image_case(tmp_path / "case", [("tflite", "fp32")])
    for name in ("package", "again"):
        done = ferry("convert", recipe, "-o", name)
        assert done.code == 0, done.err
    release, _ = open_package(tmp_path / "package")
    variant = release.variant("tflite-fp32")
    assert variant.verification.status is VerificationStatus.PASSED
    assert variant.verification.how.endswith("against the source in ONNX Runtime")
    path = Path(variant.model_file.path)
    assert (tmp_path / "package" / path).read_bytes() == (tmp_path / "again" / path).read_bytes()
    (expected,) = answers(cnn(), {"x": SCALED[:5]})
    got = load(release, variant, tmp_path / "package").run({"x": IMAGES[:5]})["y"]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    operators = _operators(tmp_path / "package" / path)
    assert operators["CONV_2D"] == 2
    assert operators["TRANSPOSE"] == 1  # what Flatten makes of channels first; none around convolutions


def test_an_operator_tflite_lacks_ends_the_conversion_in_one_line(ferry: Ferry, tmp_path: Path) -> None:
    table = np.random.default_rng(1).normal(0, 1, (60, 7)).astype(np.float32)
    recipe = write_case(tmp_path / "case", mlp(), table, shape=(-1, 7), variants=[("tflite", "fp32")])
    graph = Graph({"x": ("n", 7)})
    scores = graph.add("Gemm", "x", graph.weight(7, CLASSES))
    square = graph.add("Reshape", scores, graph.constant(np.array([-1, 2, 2])))
    extra = graph.add("Unsqueeze", graph.add("Det", square), graph.constant(np.array([1])))
    odd = graph.model({"y": (graph.add("Add", scores, extra), ("n", CLASSES))})
    onnx.save(odd, tmp_path / "case" / "model.onnx")
    done = ferry("convert", recipe, "-o", "package")
    assert done.code == 1
    lines = [line for line in done.err.splitlines() if not line.startswith("[")]
    assert len(lines) == 1
    assert "cannot convert to TFLite: op Det (1 node: n" in lines[0]
    assert not (tmp_path / "package").exists()


def _operators(path: Path) -> Counter[str]:
    interpreter = Interpreter(model_path=str(path))
    return Counter(item["op_name"] for item in interpreter._get_ops_details())
