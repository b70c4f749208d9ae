"""The port's promises, kept by ONNX Runtime and LiteRT alike."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import InferenceError, ModelLoadError, RuntimeNotInstalledError
from edge_runtime.loading import load
from edge_runtime.port import LoadedModel
from ota_contract.manifest import Binding, Runtime
from tests.edge_runtime.conftest import Package
from tests.edge_runtime.tiny_models import (
    expected,
    images,
    of_one_sample,
    onnx_model,
    tiny_variant,
    write_package,
)


def test_a_model_answers_by_the_signatures_names(model: LoadedModel) -> None:
    image = images(1)
    outputs = model.run({"image": image})
    assert outputs.keys() == {"scores"}
    np.testing.assert_allclose(outputs["scores"], expected(image))


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_change_the_answer(package: Package, runtime: Runtime, threads: int) -> None:
    image = images(5)
    outputs = package.load(runtime, threads).run({"image": image})
    np.testing.assert_allclose(outputs["scores"], expected(image))


def test_the_batch_may_change_from_call_to_call(model: LoadedModel) -> None:
    for count in (1, 7, 7, 2, 1, 64):
        image = images(count, seed=count)
        np.testing.assert_allclose(model.run({"image": image})["scores"], expected(image))


def test_a_tflite_file_of_one_sample_is_asked_sample_by_sample(tmp_path: Path, tflite_bytes: bytes) -> None:
    """Its graph has the batch written into a reshape, so that resizing the input would fail."""
    release = write_package(tmp_path, {Runtime.TFLITE: of_one_sample(tflite_bytes)})
    model = load(release, release.variant("tflite-fp32"), tmp_path)
    for count in (1, 4, 1):
        image = images(count, seed=count)
        np.testing.assert_allclose(model.run({"image": image})["scores"], expected(image))
    with pytest.raises(InferenceError):
        model.run({"image": images(2).astype(np.float32)})


def test_outputs_are_the_callers_own(model: LoadedModel) -> None:
    """A later inference does not change an earlier answer."""
    first = model.run({"image": images(1, seed=1)})["scores"]
    kept = first.copy()
    model.run({"image": images(1, seed=2)})
    np.testing.assert_array_equal(first, kept)
    first[:] = 0
    np.testing.assert_allclose(model.run({"image": images(1, seed=1)})["scores"], kept)


def test_eight_threads_get_their_own_answers(model: LoadedModel) -> None:
    """Also while their batches differ, for which TFLite's one interpreter is resized."""
    barrier = threading.Barrier(8)
    wrong: list[str] = []

    def work(seed: int) -> None:
        image = images(1 + seed % 3, seed=seed)
        answer = expected(image)
        barrier.wait(timeout=30)
        runs = (model.run({"image": image})["scores"] for _ in range(50))
        wrong.extend(f"thread {seed}" for scores in runs if not np.allclose(scores, answer))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert wrong == []


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"other": images(1)},
        {"image": images(1).astype(np.float32)},
        {"image": np.zeros((1, 3, 3, 1), np.uint8)},
    ],
    ids=["none", "other name", "other type", "other shape"],
)
def test_a_runtimes_own_failure_is_an_inference_error_and_passes(
    model: LoadedModel, inputs: dict[str, Any]
) -> None:
    """Unchecked inputs may fail, with our error; the model answers well the next time."""
    for _ in range(2):
        with pytest.raises(InferenceError):
            model.run(inputs)
    image = images(2)
    np.testing.assert_allclose(model.run({"image": image})["scores"], expected(image))


def test_a_closed_model_says_so_by_the_ports_error(model: LoadedModel) -> None:
    model.close()
    with pytest.raises(InferenceError):
        model.run({"image": images(1)})


def test_the_accelerator_is_told(model: LoadedModel) -> None:
    assert model.accelerator == "cpu"


def test_a_missing_file_is_named(package: Package, runtime: Runtime) -> None:
    path = package.folder / package.variant(runtime).model_file.path
    path.unlink()
    with pytest.raises(ModelLoadError, match=f"{runtime.value}/model.bin is missing"):
        package.load(runtime)
    path.mkdir()
    with pytest.raises(ModelLoadError, match="is missing"):
        package.load(runtime)


@pytest.mark.parametrize("keep", [0, 1, 8, 0.5, 0.9])
def test_a_truncated_file_is_a_load_error(package: Package, runtime: Runtime, keep: float) -> None:
    path = package.folder / package.variant(runtime).model_file.path
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(ModelLoadError, match=r"cannot open model\.bin") as refusal:
        package.load(runtime)
    assert "\n" not in str(refusal.value)


def test_a_file_of_another_kind_is_a_load_error(package: Package, runtime: Runtime) -> None:
    path = package.folder / package.variant(runtime).model_file.path
    path.write_bytes(b"<html>Please log in to the hotel's network</html>" * 50)
    with pytest.raises(ModelLoadError):
        package.load(runtime)


def test_a_binding_to_no_tensor_is_a_load_error(package: Package, runtime: Runtime) -> None:
    good = package.variant(runtime)
    for bad in (
        replace(good, inputs=(Binding(name="image", inner="no such tensor"),)),
        replace(good, outputs=(Binding(name="scores", inner="no such tensor"),)),
    ):
        with pytest.raises(ModelLoadError, match="has no tensor named 'no such tensor'"):
            load(package.release, bad, package.folder)


@pytest.mark.parametrize(
    ("runtime", "module"), [(Runtime.ONNX, "onnxruntime"), (Runtime.TFLITE, "ai_edge_litert.interpreter")]
)
def test_a_missing_runtime_names_the_extra_that_brings_it(
    package: Package, monkeypatch: pytest.MonkeyPatch, runtime: Runtime, module: str
) -> None:
    monkeypatch.delitem(sys.modules, f"edge_runtime.{runtime.value}_runtime", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RuntimeNotInstalledError, match=rf"pip install 'edge-ferry\[{runtime.value}\]'"):
        package.load(runtime)


def test_coreml_says_where_it_runs(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    variant = tiny_variant(Runtime.COREML, onnx_model())
    path = package.folder / variant.model_file.path
    path.parent.mkdir()
    path.write_bytes(onnx_model())
    with pytest.raises(RuntimeNotInstalledError, match="macOS only"):
        load(package.release, variant, package.folder)
