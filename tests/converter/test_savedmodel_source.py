"""A SavedModel as a source: read as data first, refused if it calls code or files, else faithful."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from converter.errors import SourceError
from converter.recipe import load_recipe
from converter.saved_model_folder import check_saved_model
from converter.source_file import check_source
from edge_runtime.loading import load
from edge_runtime.package import open_package
from ota_contract.manifest import VerificationStatus
from tests.converter.conftest import Ferry
from tests.converter.recipes import write_tiny
from tests.packages import REPOSITORY, made_once

CHANCE = np.random.default_rng(4)
VECTORS = CHANCE.normal(0, 1, (36, 7)).astype(np.float32)
PIXELS = CHANCE.integers(0, 256, (36, 8, 6, 3), dtype=np.uint8)
SEQUENCES = CHANCE.normal(0, 1, (36, 6, 3)).astype(np.float32)
SCALED = '{ operation = "affine", scale = 0.0078125, offset = -1.0, by = "converter" }'


@pytest.fixture(scope="session")
def saved(session: Path) -> Path:
    """What `saved_models` writes; tests copy what they change."""
    with made_once(session, "saved-models") as (folder, there):
        if not there:
            command = [sys.executable, "-m", "tests.converter.saved_models", str(folder)]
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            subprocess.run(command, check=True, capture_output=True, env=environment, cwd=REPOSITORY)
    return folder


def _case(folder: Path, source: Path, *, variants: tuple[tuple[str, str], ...] = (("onnx", "fp32"),)) -> Path:
    labels = CHANCE.integers(0, 4, len(VECTORS))
    return write_tiny(
        folder,
        source,
        VECTORS,
        labels,
        framework="savedmodel",
        shape=(-1, 7),
        classes=4,
        variants=variants,
        max_drop=0.5,
    )


def test_an_image_model_becomes_a_variant_of_every_runtime(ferry: Ferry, tmp_path: Path, saved: Path) -> None:
    """Pixels in, of unequal sides; GELU, depthwise convolutions and scaling by the converter inside."""
    recipe = write_tiny(
        tmp_path / "case",
        saved / "image",
        PIXELS,
        CHANCE.integers(0, 4, len(PIXELS)),
        framework="savedmodel",
        shape=(-1, 8, 6, 3),
        classes=4,
        datatype="UINT8",
        layout="NHWC",
        preprocessing=SCALED,
        variants=(("tflite", "fp32"), ("onnx", "fp32"), ("coreml", "fp16")),
        max_drop=0.5,
    )
    done = ferry("convert", recipe, "-o", "package")
    assert done.code == 0, done.err
    release, _ = open_package(tmp_path / "package")
    assert release.source.framework == "savedmodel"
    assert release.source.sha256 == check_saved_model(saved / "image", "image")
    errors = {variant.id: variant.verification.max_abs_error for variant in release.variants}
    assert {variant.verification.status for variant in release.variants} == {VerificationStatus.PASSED}
    assert errors["tflite-fp32"] is not None
    assert errors["onnx-fp32"] is not None
    assert max(errors["tflite-fp32"], errors["onnx-fp32"]) < 1e-6
    assert errors["coreml-fp16"] is not None
    assert errors["coreml-fp16"] < 1e-2
    first, second = (
        load(release, release.variant(name), tmp_path / "package").run({"x": PIXELS[:1]})["y"]
        for name in ("tflite-fp32", "onnx-fp32")
    )
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_a_recurrent_model_goes_to_onnx_and_is_refused_for_tflite(
    ferry: Ferry, tmp_path: Path, saved: Path
) -> None:
    for name, runtime in (("onnx", "onnx"), ("tflite", "tflite")):
        recipe = write_tiny(
            tmp_path / name,
            saved / "sequence",
            SEQUENCES,
            CHANCE.integers(0, 4, len(SEQUENCES)),
            framework="savedmodel",
            shape=(-1, 6, 3),
            classes=4,
            variants=((runtime, "fp32"),),
            max_drop=0.5,
        )
        done = ferry("convert", recipe, "-o", f"{name}-package")
        assert (done.code, (tmp_path / f"{name}-package").exists()) == (
            (0, True) if name == "onnx" else (1, False)
        )
    assert "the loop of a recurrent layer; build the layer with unroll=True" in done.err
    (variant,) = open_package(tmp_path / "onnx-package")[0].variants
    assert variant.verification.max_abs_error is not None
    assert variant.verification.max_abs_error < 2e-6


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no-signature", "has no signature serving_default (it has none); save it with tf.saved_model.save"),
        ("python", "calls back into Python (PyFunc), code that is not in it"),
        ("files", "reads or writes files by itself (ReadFile in "),
        ("restoring", "is saved and restored by functions of its own, which would run"),
        ("table", "holds lookup tables or files of its own, which no runtime here takes"),
        ("nan", "holds NaN or infinity; train the model again"),
        ("image", "the model's input image has shape [-1, 8, 6, 3]"),
    ],
)
def test_what_is_not_to_be_opened_is_refused_in_one_line(
    opened: dict[str, str], name: str, says: str
) -> None:
    assert says in opened[name]
    assert "\n" not in opened[name]


@pytest.fixture(scope="session")
def opened(session: Path, saved: Path) -> dict[str, str]:
    """What opening each of the odd models says, all in one process of TensorFlow."""
    names = (
        "no-signature",
        "python",
        "files",
        "restoring",
        "table",
        "nan",
        "image",
        "gone",
        "cut",
        "foreign",
    )
    with made_once(session, "saved-models-opened") as (folder, there):
        if not there:
            folder.mkdir()
            recipes = [_case(folder / name, _damaged(folder, saved, name)) for name in names]
            command = [sys.executable, "-m", "tests.converter.open_saved_models", *map(str, recipes)]
            subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY)
    return {name: (folder / name / "says.txt").read_text() for name in names}


def _damaged(folder: Path, saved: Path, name: str) -> Path:
    if (saved / name).exists():
        return saved / name
    source = folder / f"{name}-model"
    shutil.copytree(saved / "vector", source)
    graph = source / "saved_model.pb"
    if name == "gone":
        shutil.rmtree(source / "variables")
    elif name == "cut":
        graph.write_bytes(graph.read_bytes()[:-100])
    else:
        graph.write_bytes(graph.read_bytes().replace(b"LeakyRelu", b"WeakyRelu"))
    return source


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gone", "has no variables/variables.index, so its weights are missing; copy the whole folder"),
        ("cut", "saved_model.pb is damaged or cut short"),
        ("foreign", "needs operators that TensorFlow does not have: WeakyRelu"),
    ],
)
def test_damage_is_refused_in_one_line(opened: dict[str, str], name: str, says: str) -> None:
    assert says in opened[name]


def _as_file(source: Path) -> Path:
    return source / "saved_model.pb"


def _with_link_out(source: Path) -> Path:
    (source / "variables" / "more").symlink_to("/etc/hostname")
    return source


def _with_folder_link(source: Path) -> Path:
    (source / "more").symlink_to("variables")
    return source


def _with_pipe(source: Path) -> Path:
    os.mkfifo(source / "pipe")
    return source


def _without_graph(source: Path) -> Path:
    (source / "saved_model.pb").rename(source / "saved_model.pbtxt")
    return source


def _one_above(source: Path) -> Path:
    return source.parent


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_as_file, "is a file; a SavedModel is a folder: name the one that holds saved_model.pb"),
        (_with_link_out, "variables/more is a link that leads out of the folder; refused"),
        (_with_folder_link, "more is a link to no file; refused"),
        (_with_pipe, "pipe is neither file nor folder; refused"),
        (_without_graph, "holds no saved_model.pb, but the text form, which is not read; save it again"),
        (_one_above, "holds no saved_model.pb, but folders below do; name one of them"),
    ],
)
def test_a_folder_is_looked_at_before_tensorflow_is(
    tmp_path: Path, saved: Path, change: Callable[[Path], Path], says: str
) -> None:
    source = tmp_path / "models" / "vector"
    shutil.copytree(saved / "vector", source)
    recipe = load_recipe(_case(tmp_path / "case", change(source)))
    with pytest.raises(SourceError) as caught:
        check_source(recipe)
    assert str(caught.value).endswith(says)


def test_every_file_is_part_of_the_digest_and_links_within_are_followed(tmp_path: Path, saved: Path) -> None:
    source = tmp_path / "vector"
    shutil.copytree(saved / "vector", source)
    before = check_saved_model(source, "vector")
    data = next((source / "variables").glob("*.data*"))
    data.rename(source / "moved")
    data.symlink_to(source / "moved")
    linked = check_saved_model(source, "vector")
    (source / "moved").write_bytes((source / "moved").read_bytes()[:-1] + b"\1")
    assert len({before, linked, check_saved_model(source, "vector")}) == 3
