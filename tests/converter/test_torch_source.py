"""A PyTorch program as a source: checked against the recipe, and converted without TensorFlow."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.errors import ConverterError
from converter.jobs import Job
from converter.passes.torch_source import TorchReference, open_torch
from converter.recipe import Overrides, load_recipe
from edge_runtime.loading import load
from edge_runtime.package import open_package
from ota_contract.manifest import VerificationStatus
from tests.converter.conftest import Ferry
from tests.converter.family_passes import recipe_of
from tests.converter.pt2_attacks import attacked, members_of, write_members
from tests.converter.recipes import write_tiny
from tests.support.documentation import blocks

PAGE = "docs/converting-pytorch.md"


def _job(recipe_path: Path) -> Job:
    folder = recipe_path.parent / "job"
    folder.mkdir(exist_ok=True)
    return Job(
        name="torch_to_onnx",
        folder=folder,
        recipe_path=recipe_path,
        overrides=Overrides(),
        inputs={},
        params={},
    )


def _refusal(recipe_path: Path) -> str:
    with pytest.raises(ConverterError) as caught:
        open_torch(_job(recipe_path), load_recipe(recipe_path))
    message = str(caught.value)
    assert "\n" not in message
    return message


def _table(folder: Path, source: Path, **changes: Any) -> Path:
    """A recipe for a program over seven columns."""
    raw = np.zeros((40, 7), np.float32)
    return write_tiny(
        folder,
        source,
        raw,
        np.zeros(40, np.int64),
        framework="torch",
        classes=4,
        **{"shape": (-1, 7), **changes},
    )


def test_the_reference_is_pytorchs_own_answer(tmp_path: Path, torch_models: Path) -> None:
    """Asked in the recipe's layout, many samples at once."""
    recipe_path = recipe_of(torch_models / "cnn-any.pt2", tmp_path, framework="torch")
    reference = TorchReference(_job(recipe_path), load_recipe(recipe_path))
    assert reference.max_batch == 1024
    with np.load(torch_models / "cnn.npz") as archive:
        x, expected = archive["samples"].transpose(0, 2, 3, 1), archive["answers"]
    np.testing.assert_allclose(reference({"x": x[:9]})[0], expected[:9], atol=1e-6)
    assert not list((tmp_path / "job").iterdir())  # the copy that was opened is gone


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nan", "weight 0.weight holds NaN or infinity; train the model again"),
        ("training", "was exported in training mode (aten::batch_norm); call model.eval() before"),
        ("counting", "changes its own buffer count when it answers; call model.eval() before"),
        (
            "dropout",
            "was exported in training mode (aten::dropout); call model.eval() before torch.export.export",
        ),
        ("bfloat16", "input input is of torch.bfloat16, which devices do not take"),
        (
            "many",
            "takes batches of 2 and more, and devices ask about one sample; export it with dynamic_shapes",
        ),
    ],
)
def test_a_program_that_is_no_model_to_ask_is_refused(
    tmp_path: Path, torch_models: Path, name: str, says: str
) -> None:
    batch = -1 if name == "many" else 4 if name == "training" else 1
    assert says in _refusal(_table(tmp_path, torch_models / "odd" / f"{name}.pt2", shape=(batch, 7)))


def test_a_program_that_does_not_fit_the_recipe_is_refused(tmp_path: Path, torch_models: Path) -> None:
    program = torch_models / "mlp-any.pt2"
    assert "has shape [-1, 7], " in _refusal(_table(tmp_path, program, shape=(-1, 8)))
    cast = _refusal(_table(tmp_path, program, datatype="INT32"))
    assert "as float32, " in cast
    assert cast.endswith("says INT32; add a preprocessing step by the converter")
    images = recipe_of(torch_models / "cnn-any.pt2", tmp_path / "case", framework="torch", extra="")
    assert 'if it is channels first, write layout = "NCHW" into [source]' in _refusal(images)


@pytest.mark.parametrize("attack", ["object", "expression", "pickle", "folder", "truncated"])
def test_bad_input_is_one_line_and_nothing_is_written(
    ferry: Ferry, tmp_path: Path, torch_models: Path, attack: str
) -> None:
    source, trace = tmp_path / "model.pt2", tmp_path / "trace"
    good = torch_models / "mlp-any.pt2"
    match attack:
        case "pickle":
            shutil.copy(torch_models / "odd" / "old.pt2", source)
        case "folder":
            source.mkdir()
        case "truncated":
            source.write_bytes(good.read_bytes()[:900])
        case _:
            write_members(source, attacked(members_of(good), attack, trace))
    done = ferry("convert", _table(tmp_path / "case", source), "-o", "package")
    assert done.code == 1
    assert done.out == ""
    (line,) = done.err.splitlines()
    assert {
        "object": "holds a pickled object (data/constants/opaque_obj_0); it was not opened; load",
        "expression": "which is no arithmetic; it was not opened",
        "pickle": "model.pt2 is a pickle, which runs code when opened; it was not opened; load the model",
        "folder": "is a folder; save the model as one file: torch.export.save(program, 'model.pt2')",
        "truncated": "model.pt2 is not a readable .pt2 file",
    }[attack] in line
    assert not trace.exists()
    assert not (tmp_path / "package").exists()


@pytest.mark.usefixtures("without_tensorflow")
def test_the_pages_example_converts_without_tensorflow(ferry: Ferry, tmp_path: Path) -> None:
    """From pixels in NHWC to every runtime, one package; a TFLite file of one sample answers batches."""
    (program,), (recipe,) = blocks(PAGE, "python"), blocks(PAGE, "toml")
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, cwd=tmp_path)
    (tmp_path / "recipe.toml").write_text(recipe)
    done = ferry("convert", "recipe.toml", "-o", "package")
    assert done.code == 0, done.err
    release, _ = open_package(tmp_path / "package")
    assert {variant.id for variant in release.variants} == {"onnx-fp32", "tflite-fp32", "coreml-fp16"}
    assert {variant.verification.status for variant in release.variants} == {VerificationStatus.PASSED}
    assert "against the source in PyTorch" in release.variant("tflite-fp32").verification.how
    pixels = np.random.default_rng(1).integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)
    answers = [
        load(release, release.variant(name), tmp_path / "package").run({"image": pixels})["scores"]
        for name in ("onnx-fp32", "tflite-fp32")
    ]
    assert answers[0].shape == (5, 4)
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)
