"""The example model's sets are apart, its field is what it says, and training repeats itself."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.packages import REPOSITORY, digits_model, session_folder

SCRIPT = REPOSITORY / "models" / "digits" / "train.py"


@pytest.fixture(scope="module")
def train() -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits_train", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits_model(session_folder(tmp_path_factory))


def test_no_scan_is_in_two_sets(train: ModuleType) -> None:
    splits = train.split_scans()
    contents = {
        name: {
            (image if image.max() <= train.INK else image // train.NEW_CAMERA_GAIN).tobytes()
            for image in images
        }
        for name, (images, _) in splits.items()
    }
    for name, (images, labels) in splits.items():
        assert len(contents[name]) == len(images) == len(labels)
    for one, other in itertools.combinations(contents, 2):
        assert not contents[one] & contents[other]
    assert sum(map(len, contents.values())) == 1797
    assert {name: len(rows) for name, (rows, _) in splits.items()} == {
        "train": 937,
        "evaluation": 540,
        "field": 200,
        "calibration": 100,
        "golden": 20,
    }


def test_the_split_is_the_same_every_time(train: ModuleType) -> None:
    for (images, labels), (again, labels_again) in zip(
        train.split_scans().values(), train.split_scans().values(), strict=True
    ):
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(labels, labels_again)


def test_three_in_ten_field_scans_are_bright_and_no_other(train: ModuleType) -> None:
    for name, (images, _) in train.split_scans().items():
        bright = images.reshape(len(images), -1).max(axis=1) > train.INK
        assert bright.mean() == (0.3 if name == "field" else 0.0)
    field = train.split_scans()["field"][0]
    assert field.dtype == np.uint8
    assert 200 < field.max() <= 255


def test_the_files_are_the_sets(train: ModuleType, model: Path) -> None:
    splits = train.split_scans()
    assert sorted(path.name for path in model.iterdir()) == sorted(
        ["digits.keras", *(f"{name}.npz" for name in splits if name != "train")]
    )
    for name in train.SPLITS:
        with np.load(model / f"{name}.npz", allow_pickle=False) as archive:
            assert archive["image"].dtype == np.uint8
            assert archive["image"].shape[1:] == (8, 8, 1)
            np.testing.assert_array_equal(archive["image"], splits[name][0])
            assert ("label" in archive.files) == (name != "field")  # nobody labels what devices see
            if name != "field":
                np.testing.assert_array_equal(archive["label"], splits[name][1])


def test_every_digit_is_in_every_set(train: ModuleType) -> None:
    for name, (_, labels) in train.split_scans().items():
        assert set(labels.tolist()) == set(range(10)), name


def test_training_twice_gives_the_same_model(tmp_path: Path) -> None:
    for name in ("one", "two"):
        command = [sys.executable, str(SCRIPT), "--out", str(tmp_path / name), "--epochs", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "on 540 evaluation scans" in done.stdout
    one, two = ((tmp_path / name / "digits.keras").read_bytes() for name in ("one", "two"))
    assert one == two
