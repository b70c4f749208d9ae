"""Converting from Python, as docs/python-api.md says, and what a package offers."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter import ConverterError, Package, convert
from edge_runtime.errors import EdgeRuntimeError, PackageError
from tests.packages import REPOSITORY, cache_environment
from tests.support.documentation import blocks


@pytest.fixture
def written(package: Path) -> Package:
    return Package.at(package)


@pytest.mark.usefixtures("package")  # whose results are remembered
def test_the_guide_runs(
    session: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FERRY_CACHE", cache_environment(session)["FERRY_CACHE"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "digits-model").symlink_to(model)
    (tmp_path / "models").symlink_to(REPOSITORY / "models")
    space: dict[str, Any] = {}
    for block in blocks("docs/python-api.md", "python"):
        exec(block, space)  # noqa: S102 - our own page
    printed = capsys.readouterr().out.splitlines()
    assert any(line.startswith("onnx-int8 passed ") for line in printed)
    assert any("'onnx-int8-full'" in line for line in printed)
    assert printed[-1].startswith("recipe: goal.metric: 'beauty' is none of accuracy")
    assert float(printed[-3]) > 0.9


@pytest.mark.usefixtures("package")
def test_a_recipe_of_values_is_read_as_its_file_is(
    session: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FERRY_CACHE", cache_environment(session)["FERRY_CACHE"])
    monkeypatch.chdir(tmp_path)
    values = tomllib.loads((REPOSITORY / "models" / "digits" / "recipe.toml").read_text())
    values["source"]["path"] = str(model / "digits.keras")
    values["data"] = {name: str(model / f"{name}.npz") for name in values["data"]}
    values["variant"] = [{"runtime": "onnx", "precision": "fp32"}]
    package = convert(values)
    assert package.path == Path("build/digits")
    assert [variant.id for variant in package.variants] == ["onnx-fp32"]
    assert str(tmp_path) not in (package.path / "release.json").read_text()
    (tmp_path / "recipe.json").write_text(json.dumps(values))  # a file of that kind is no recipe
    with pytest.raises(ConverterError, match="not TOML"):
        convert(tmp_path / "recipe.json")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "recipe: release: missing"),
        ({"relase": {}}, "recipe: relase: unknown key"),
        ({"release": object()}, "recipe: holds what no recipe can"),
        ({"release": {"version": {1, 2}}}, "recipe: holds what no recipe can"),
    ],
)
def test_values_that_are_no_recipe_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConverterError) as caught:
        convert(values)
    assert str(caught.value).startswith(message)
    assert not Path("build/recipe").exists()


def test_a_variant_runs_on_raw_inputs_and_on_tensors(written: Package, model: Path) -> None:
    with np.load(model / "golden.npz") as golden:
        pixels, labels = golden["image"], golden["label"]
    with written.open("tflite-fp32") as variant:
        scores = variant.predict({"image": pixels})["scores"]
        assert (scores.argmax(axis=1) == labels).mean() > 0.9
        assert np.array_equal(variant.run({"image": pixels})["scores"], scores)
        with pytest.raises(EdgeRuntimeError):
            variant.predict({"picture": pixels})
        with pytest.raises(EdgeRuntimeError):
            variant.run({"image": pixels.astype(np.float32)})


def test_a_package_says_what_it_holds(written: Package, package: Path) -> None:
    assert (written.failed, written.unserved, written.unmet) == ((), (), ())
    assert written.file("onnx-int8").suffix == ".onnx"
    assert written.file("coreml-fp16").suffix == ".mlpackage"
    assert written.file("coreml-fp16").is_dir()
    assert written.report.is_file()
    with pytest.raises(ConverterError, match="has no variant onnx-int3; it has onnx-int8"):
        written.open("onnx-int3")
    with pytest.raises(PackageError):
        Package.at(package / "variants")


def test_a_notebook_shows_a_table(written: Package) -> None:
    html = written._repr_html_()
    assert html.count("<tr>") == 1 + len(written.variants)
    assert "<td>onnx-int8</td><td>passed</td>" in html
    assert "accuracy 0.9" in html
    assert "<script" not in html
