"""Bad input to `ferry convert`: one clear line, exit code 1, and nothing half-written."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.package import open_package
from ota_contract.manifest import VerificationStatus
from tests.converter.conftest import Ferry
from tests.converter.recipes import recipe_text, write_recipe


def _refused(ferry: Ferry, folder: Path, text: str, *, log: bool = False) -> str:
    """Convert over an older package; it must survive, and the reason be one line."""
    output = folder / "package"
    output.mkdir()
    (output / "release.json").write_text("older")
    before = sorted(folder.rglob("*"))
    recipe = write_recipe(folder, text)
    done = ferry("convert", recipe, "-o", output)
    assert done.code == 1
    assert done.out == ""
    lines = [line for line in done.err.splitlines() if not line.startswith("[")]
    assert len(lines) == 1
    logs = sorted((folder / "scratch").glob("ferry-*.log"))
    assert bool(logs) == log
    assert sorted(set(folder.rglob("*")) - {recipe, *logs}) == before
    assert (output / "release.json").read_text() == "older"
    return lines[0]


def test_a_missing_recipe(ferry: Ferry, tmp_path: Path) -> None:
    done = ferry("convert", "absent.toml", "-o", "package")
    assert done == (1, "", "ferry: absent.toml: No such file or directory\n")
    assert not (tmp_path / "package").exists()


def test_a_malformed_recipe(ferry: Ferry, tmp_path: Path) -> None:
    assert "recipe.toml: not TOML" in _refused(ferry, tmp_path, "[release")


def test_an_unknown_key(ferry: Ferry, tmp_path: Path, model: Path) -> None:
    line = _refused(ferry, tmp_path, recipe_text(model, extra="max_dorp = 1"))
    assert line == (
        "ferry: recipe.toml: goal.max_dorp: unknown key; "
        "known are metric, max_drop, confidence, tolerance, prefer"
    )


def test_a_missing_source(ferry: Ferry, tmp_path: Path, model: Path) -> None:
    line = _refused(ferry, tmp_path, recipe_text(model, source=tmp_path / "absent.keras"))
    assert line == (
        "ferry: recipe.toml: source.path: absent.keras does not exist; "
        "run `python models/digits/train.py` first"
    )


def test_a_pickle(ferry: Ferry, tmp_path: Path, model: Path) -> None:
    source = tmp_path / "model.keras"
    source.write_bytes(pickle.dumps({"weights": [1]}))
    line = _refused(ferry, tmp_path, recipe_text(model, source=source))
    assert line == "ferry: model.keras is a pickle, which runs code when opened; it was not opened"


def test_a_zip_bomb(ferry: Ferry, tmp_path: Path, model: Path) -> None:
    source = tmp_path / "model.keras"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(64 * 2**20))
    assert "a zip bomb" in _refused(ferry, tmp_path, recipe_text(model, source=source))


@pytest.mark.parametrize(
    ("name", "says"),
    [("lambda.keras", "has a Lambda layer (halve)"), ("custom.keras", "which is code outside Keras")],
)
def test_a_model_that_holds_code(
    ferry: Ferry, tmp_path: Path, model: Path, odd_models: Path, name: str, says: str
) -> None:
    text = recipe_text(model, source=odd_models / name)
    assert says in _refused(ferry, tmp_path, text)


def test_weights_cut_short_inside_the_archive(ferry: Ferry, tmp_path: Path, model: Path) -> None:
    """Whole as a zip file, so only Keras can tell."""
    source = tmp_path / "model.keras"
    with zipfile.ZipFile(model / "digits.keras") as whole, zipfile.ZipFile(source, "w") as cut:
        for name in whole.namelist():
            content = whole.read(name)
            cut.writestr(name, content[: len(content) // 2] if name.endswith(".h5") else content)
    line = _refused(ferry, tmp_path, recipe_text(model, source=source), log=False)
    assert "failed (source): Keras cannot open" in line


def test_a_model_of_another_shape(ferry: Ferry, tmp_path: Path, model: Path, odd_models: Path) -> None:
    text = recipe_text(model, source=odd_models / "wide.keras")
    line = _refused(ferry, tmp_path, text)
    assert "the model's input image has shape [-1, 9, 9, 1], " in line
    assert line.endswith("recipe.toml says image has [-1, 8, 8, 1]")


def test_a_model_that_takes_another_type(ferry: Ferry, tmp_path: Path, model: Path, odd_models: Path) -> None:
    line = _refused(ferry, tmp_path, recipe_text(model, source=odd_models / "unscaled.keras"))
    assert "the model takes image as float32, " in line
    assert line.endswith("recipe.toml says UINT8; add a preprocessing step by the converter")


def test_weights_of_nan(ferry: Ferry, tmp_path: Path, model: Path, odd_models: Path) -> None:
    line = _refused(ferry, tmp_path, recipe_text(model, source=odd_models / "nan.keras"))
    assert "failed (not_finite)" in line
    assert "holds NaN or infinity; train the model again" in line


def test_an_empty_calibration_set(ferry: Ferry, tmp_path: Path, model: Path) -> None:
    for name in ("evaluation", "golden"):
        shutil.copy(model / f"{name}.npz", tmp_path)
    np.savez(tmp_path / "calibration.npz", image=np.zeros((0, 8, 8, 1), np.uint8))
    line = _refused(ferry, tmp_path, recipe_text(model, data=tmp_path))
    assert line == "ferry: calibration.npz: the calibration set is empty"


def test_data_of_another_shape(ferry: Ferry, tmp_path: Path, model: Path) -> None:
    line = _refused(ferry, tmp_path, recipe_text(model, shape=(-1, 8, 9, 1)))
    assert "uint8 of shape [100, 8, 8, 1], the recipe says UINT8 of shape [-1, 8, 9, 1]" in line


def test_a_variant_nothing_makes(ferry: Ferry, tmp_path: Path, model: Path) -> None:
    line = _refused(ferry, tmp_path, recipe_text(model, variants=[("tflite", "mixed")]))
    assert line.startswith("ferry: tflite-mixed: no route gives tflite in mixed")


def test_a_pass_that_takes_too_long(ferry: Ferry, tmp_path: Path, model: Path) -> None:
    text = recipe_text(model, extra="[limits]\ntimeout_s = 0.2")
    assert "failed (timeout): still running after 0.2 s" in _refused(ferry, tmp_path, text)


def test_a_pass_that_takes_too_much_memory(ferry: Ferry, tmp_path: Path, model: Path) -> None:
    text = recipe_text(model, extra="[limits]\nmemory_mb = 100")
    line = _refused(ferry, tmp_path, text)
    assert "failed (memory): took 1" in line
    assert "at most 100 are allowed" in line


def test_an_output_that_is_not_a_package(ferry: Ferry, tmp_path: Path, model: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter-1.tex").write_text("years of work")
    recipe = write_recipe(tmp_path, recipe_text(model))
    done = ferry("convert", recipe, "-o", "thesis")
    assert done == (
        1,
        "",
        "ferry: thesis is not empty and not a package; name another folder, or empty it\n",
    )
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter-1.tex"]


def test_a_time_that_is_none(
    ferry: Ferry, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    line = _refused(ferry, tmp_path, recipe_text(model))
    assert line == "ferry: SOURCE_DATE_EPOCH 'yesterday' is not a time in whole seconds"


def test_usage_mistakes_are_code_two(ferry: Ferry) -> None:
    with pytest.raises(SystemExit) as caught:
        ferry("convert", "recipe.toml")
    assert caught.value.code == 2


def test_a_variant_that_loses_too_much_is_kept_and_marked(ferry: Ferry, tmp_path: Path, model: Path) -> None:
    """Calibrated on scans eight times as faint as the real ones: strokes saturate, answers go.

    The float model on the way to the integer one was not asked for, and is not shipped.
    """
    for name in ("evaluation", "golden"):
        shutil.copy(model / f"{name}.npz", tmp_path)
    with np.load(model / "calibration.npz") as archive:
        np.savez(tmp_path / "calibration.npz", image=archive["image"] // 8, label=archive["label"])
    variants = [("tflite", "fp32"), ("onnx", "int8")]
    recipe = write_recipe(tmp_path, recipe_text(model, data=tmp_path, variants=variants))
    done = ferry("convert", recipe, "-o", "package")
    assert done.code == 1
    assert "ferry: onnx-int8 failed its verification: " in done.err
    assert done.err.endswith("ferry: no variant for onnx is usable\n")
    release, _ = open_package(tmp_path / "package")
    statuses = {variant.id: variant.verification.status for variant in release.variants}
    assert statuses == {"tflite-fp32": VerificationStatus.PASSED, "onnx-int8": VerificationStatus.FAILED}
    assert [variant.id for variant in release.variants] == ["tflite-fp32", "onnx-int8"]
    shipped = sorted(path.name for path in (tmp_path / "package" / "variants").iterdir())
    assert shipped == ["onnx-int8", "tflite-fp32"]
