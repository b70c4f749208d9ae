"""Data sets are read without unpickling, and refused where a figure from them would mean nothing."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.datasets import load_datasets
from converter.errors import DataError
from converter.recipe import Recipe, load_recipe
from tests.converter.recipes import recipe_text, write_recipe


@pytest.fixture
def sets(tmp_path: Path, model: Path) -> Path:
    """A copy of the sets a test may spoil."""
    for name in ("calibration", "evaluation", "golden"):
        shutil.copy(model / f"{name}.npz", tmp_path)
    return tmp_path


def _recipe(folder: Path) -> Recipe:
    return load_recipe(write_recipe(folder, recipe_text(folder)))


def _spoil(folder: Path, name: str, **changes: Any) -> None:
    with np.load(folder / f"{name}.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    arrays.update(changes)
    np.savez(folder / f"{name}.npz", **{key: value for key, value in arrays.items() if value is not None})


def _refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_datasets(_recipe(folder))
    return str(caught.value)


def test_the_digits_sets_are_whole(sets: Path) -> None:
    loaded = load_datasets(_recipe(sets))
    assert [len(data) for data in (loaded.calibration, loaded.evaluation, loaded.golden)] == [100, 540, 20]


def test_the_digest_is_of_the_values_not_of_the_archive(sets: Path) -> None:
    before = load_datasets(_recipe(sets)).evaluation
    arrays: dict[str, Any] = {"label": before.labels, **before.raw}
    np.savez_compressed(sets / "evaluation.npz", **arrays)
    assert load_datasets(_recipe(sets)).evaluation.sha256() == before.sha256()
    _spoil(sets, "evaluation", label=np.roll(arrays["label"], 1))
    assert load_datasets(_recipe(sets)).evaluation.sha256() != before.sha256()


def test_a_missing_set_says_what_makes_it(sets: Path) -> None:
    (sets / "golden.npz").unlink()
    assert _refusal(sets).endswith("golden.npz does not exist; run `python models/digits/train.py` first")


def test_an_empty_calibration_set_is_refused(sets: Path) -> None:
    _spoil(sets, "calibration", image=np.zeros((0, 8, 8, 1), np.uint8), label=np.zeros(0, np.int64))
    assert _refusal(sets).endswith("calibration.npz: the calibration set is empty")


def test_a_calibration_set_of_one_class_is_refused(sets: Path) -> None:
    with np.load(sets / "calibration.npz") as archive:
        n = len(archive["label"])
    _spoil(sets, "calibration", label=np.full(n, 3))
    assert _refusal(sets).endswith("every sample is of class 3; calibrate with samples of each")


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((5, 8, 9, 1), np.uint8), "uint8 of shape [5, 8, 9, 1]"),
        (np.zeros((5, 64), np.uint8), "uint8 of shape [5, 64]"),
        (np.zeros((5, 8, 8, 1), np.float32), "float32 of shape [5, 8, 8, 1]"),
    ],
)
def test_a_set_of_another_shape_or_type_is_refused(sets: Path, image: Any, found: str) -> None:
    _spoil(sets, "golden", image=image)
    assert f"`image` is {found}, the recipe says UINT8 of shape [-1, 8, 8, 1]" in _refusal(sets)


def test_a_set_without_the_input_names_what_it_has(sets: Path) -> None:
    _spoil(sets, "golden", image=None, picture=np.zeros(3))
    assert _refusal(sets).endswith("has no array `image`; it has label, picture")


def test_an_unlabelled_evaluation_set_is_refused(sets: Path) -> None:
    _spoil(sets, "evaluation", label=None)
    assert _refusal(sets).endswith("has no `label` array to judge answers by")


def test_labels_outside_the_recipes_are_refused(sets: Path) -> None:
    _spoil(sets, "evaluation", label=np.full(540, 10))
    assert _refusal(sets).endswith("`label` names classes outside 0…9")


def test_labels_that_are_not_one_number_a_sample_are_refused(sets: Path) -> None:
    _spoil(sets, "evaluation", label=np.zeros((540, 10)))
    assert _refusal(sets).endswith("`label` must be one whole number a sample")


def test_judging_by_what_was_calibrated_with_is_refused(sets: Path) -> None:
    with np.load(sets / "calibration.npz") as archive:
        stolen = archive["image"][:7]
    with np.load(sets / "evaluation.npz") as archive:
        images = archive["image"].copy()
    images[100:107] = stolen
    _spoil(sets, "evaluation", image=images)
    assert _refusal(sets) == "7 samples are in both the evaluation and the calibration set; split them"


def test_pickled_arrays_are_not_opened(sets: Path) -> None:
    trace = sets / "trace"

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (trace,)

    np.savez(sets / "golden.npz", image=np.array([Bomb()], dtype=object))
    assert "is not a readable .npz file of plain arrays" in _refusal(sets)
    assert not trace.exists()


def test_a_bomb_of_a_set_is_refused(sets: Path) -> None:
    with zipfile.ZipFile(sets / "golden.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", bytes(64 * 2**20))
    assert "a zip bomb" in _refusal(sets)


def test_a_set_cut_off_is_refused(sets: Path) -> None:
    content = (sets / "golden.npz").read_bytes()
    (sets / "golden.npz").write_bytes(content[:-40])
    assert "is not a readable .npz file" in _refusal(sets)


@pytest.mark.parametrize(
    ("metric", "labels", "message"),
    [
        ("mean_cosine", None, ""),
        ("rank_correlation", None, ""),
        ("r2", np.random.default_rng(1).normal(size=(540, 10)), ""),
        ("r2", None, "has no `label` array to judge answers by"),
        ("r2", np.zeros((540, 3)), "`label` must be 10 numbers a sample"),
        ("r2", np.full((540, 10), np.nan), "`label` must be 10 numbers a sample"),
        ("nrmse", np.ones((540, 10)), "every `label` is the same: nrmse means nothing then"),
        ("f1_macro", np.full(540, 0.5), "`label` must be one whole number a sample"),
    ],
)
def test_labels_are_what_the_metric_needs(sets: Path, metric: str, labels: Any, message: str) -> None:
    _spoil(sets, "evaluation", label=labels)
    for name in ("calibration", "golden"):
        _spoil(sets, name, label=None)
    text = recipe_text(sets).replace('metric = "accuracy"', f'metric = "{metric}"')
    recipe = load_recipe(write_recipe(sets, text))
    if not message:
        assert len(load_datasets(recipe).evaluation) == 540
        return
    with pytest.raises(DataError) as caught:
        load_datasets(recipe)
    assert message in str(caught.value)
