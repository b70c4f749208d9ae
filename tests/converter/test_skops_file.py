"""A .skops file is refused before skops sees it, if it holds what could run code, or too much."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from converter.errors import PassError, Reason, SourceError
from converter.jobs import Job
from converter.passes.sklearn_model import open_sklearn
from converter.passes.sklearn_to_onnx import run
from converter.recipe import Overrides, load_recipe
from converter.skops_file import check_skops
from tests.converter.conftest import Ferry
from tests.converter.sklearn_models import data, fitted, write_sklearn_case


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A good case, whose file a test then damages."""
    return write_sklearn_case(tmp_path / "case", fitted("forest"), "wine")


def _check(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        check_skops(path, path.read_bytes()[:64], path.name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _open(recipe: Path) -> str:
    with pytest.raises(SourceError) as caught:
        open_sklearn(load_recipe(recipe))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _with_schema(path: Path, change: Callable[[Any], None]) -> None:
    """Rewrite the file with its schema changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members["schema.json"])
    change(schema)
    members["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("content", [pickle.dumps({}), zlib.compress(pickle.dumps({}))])
def test_a_pickle_is_refused_unopened_with_what_to_do(
    ferry: Ferry, recipe: Path, tmp_path: Path, content: bytes
) -> None:
    """joblib's files too, compressed or not; nothing is written."""
    (recipe.parent / "model.skops").write_bytes(content)
    done = ferry("convert", recipe, "-o", "package")
    assert done.code == 1
    assert done.err.rstrip().endswith(
        "model.skops is a pickle, which runs code when opened; it was not opened; "
        "save it where you trust it: skops.io.dump(model, 'model.skops')"
    )
    assert not (tmp_path / "package").exists()


def _call(value: float) -> float:
    return value


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()), "numpy.log1p"),
        (make_pipeline(FunctionTransformer(_call), LogisticRegression()), "_call"),
        (KNeighborsClassifier(), "sklearn.neighbors._classification.KNeighborsClassifier"),
        (make_pipeline(FunctionTransformer(json.loads), LogisticRegression()), "json.loads"),
    ],
)
def test_types_off_the_list_are_refused_by_name(tmp_path: Path, model: Any, says: str) -> None:
    skops.io.dump(model, tmp_path / "model.skops")
    message = _check(tmp_path / "model.skops")
    assert says in message
    assert message.endswith(
        "not among the types of scikit-learn and numpy that are loaded; it was not opened"
    )


def test_a_known_type_made_by_a_loader_that_runs_code_is_refused(recipe: Path) -> None:
    def change(schema: Any) -> None:
        schema["content"]["content"]["random_state"] = {
            "__module__": "sklearn.tree._tree",
            "__class__": "Tree",
            "__loader__": "PartialNode",
            "content": {},
        }

    _with_schema(recipe.parent / "model.skops", change)
    assert "makes its sklearn.tree._tree.Tree by a PartialNode" in _check(recipe.parent / "model.skops")


def test_a_random_generator_is_one_of_numpys(tmp_path: Path) -> None:
    """skops looks the name up in numpy.random, and calls what it finds."""
    path = tmp_path / "model.skops"
    model = RandomForestClassifier(2, random_state=0).fit(*data("wine"))
    model.estimator_params = np.random.default_rng(1)
    skops.io.dump(model, path)
    check_skops(path, path.read_bytes()[:64], "model.skops")

    def rename(value: Any) -> None:
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            rename(item)
        if isinstance(value, dict) and value.get("content") == '"PCG64"':
            value["content"] = '"set_state"'

    _with_schema(path, rename)
    assert "names a random generator that numpy does not have" in _check(path)


def test_bombs_escapes_and_stumps_are_refused(recipe: Path) -> None:
    path = recipe.parent / "model.skops"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "is not a readable .skops file: not a complete zip archive" in _check(path)
    for name, content, says in (
        ("schema.json", bytes(32 * 2**20), "a zip bomb"),
        ("../model.npy", b"x", "outside its folder"),
        ("other.json", b"{}", "without schema.json, so not a .skops file"),
        ("schema.json", b"{", "schema.json is damaged"),
        ("schema.json", b"{}", "describes no object"),
        ("schema.json", b"[" * 200_000, "nested too deep"),
    ):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
        assert says in _check(path)
    path.write_bytes(b"\x89HDF\r\n")
    assert "is not a .skops file: it begins with 89 48 44 46" in _check(path)


@given(st.binary(max_size=200))
def test_any_archive_is_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("skops") / "model.skops"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("schema.json", content)
    path.write_bytes(buffer.getvalue())
    _check(path)


def test_a_member_that_is_gone_is_refused(recipe: Path) -> None:
    path = recipe.parent / "model.skops"
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    arrays = [name for name in kept if name.endswith(".npy")]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in kept.items():
            if name != arrays[0]:
                archive.writestr(name, content)
    assert "skops cannot open" in _open(recipe)


def test_a_tree_that_leads_out_of_its_memory_is_refused(recipe: Path) -> None:
    """scikit-learn follows its numbers unchecked."""
    model = RandomForestClassifier(2, random_state=0).fit(*data("wine"))
    model.estimators_[1].tree_.children_left[0] = 10**6
    skops.io.dump(model, recipe.parent / "model.skops")
    assert "holds a damaged tree" in _open(recipe)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (RandomForestClassifier(), "is not fitted"),
        (
            LogisticRegression(max_iter=50).fit(data("cancer")[0] / 100, data("cancer")[1]),
            "the model takes 30 columns",
        ),
    ],
)
def test_what_does_not_fit_the_recipe_is_refused(recipe: Path, model: Any, says: str) -> None:
    skops.io.dump(model, recipe.parent / "model.skops")
    assert says in _open(recipe)


def test_nan_among_the_weights_is_refused(recipe: Path, tmp_path: Path) -> None:
    model = LogisticRegression(max_iter=50).fit(data("wine")[0] / 100, data("wine")[1])
    model.coef_[0, 0] = np.nan
    skops.io.dump(model, recipe.parent / "model.skops")
    job = Job(
        name="sklearn_to_onnx",
        folder=tmp_path,
        recipe_path=recipe,
        overrides=Overrides(),
        inputs={},
        params={"opset": 15},
    )
    with pytest.raises(PassError, match="a weight is NaN or infinite; train the model again") as caught:
        run(job)
    assert caught.value.reason is Reason.NOT_FINITE
