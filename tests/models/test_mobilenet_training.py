"""The MobileNet: photographs are the scans', no scan is in two sets, and what it learns is exported."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from converter.recipe import load_recipe
from models.digits.train import Split, split_scans
from models.mobilenet.network import MobileNet
from models.mobilenet.photographs import HEIGHT, WIDTH, photograph
from models.mobilenet.train import SPLITS, accuracy, photographs, train, write
from tests.packages import REPOSITORY

FLOOR = 0.5
"""What twenty epochs reach, less a margin for another machine; a guess is right in one of ten."""


@pytest.fixture(scope="module")
def scans() -> dict[str, Split]:
    return split_scans()


@pytest.fixture(scope="module")
def sets(scans: dict[str, Split]) -> dict[str, Split]:
    return {name: photographs(name, scans[name]) for name in SPLITS}


@pytest.fixture(scope="module")
def model(scans: dict[str, Split]) -> MobileNet:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train(scans["train"], 20, 1)
    finally:
        torch.set_num_threads(threads)


def test_a_photograph_depends_on_scan_and_generator_alone(scans: dict[str, Split]) -> None:
    images = scans["golden"][0]
    one, again, other = (photograph(images, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert one.shape == (len(images), HEIGHT, WIDTH, 3)
    assert HEIGHT != WIDTH  # else swapped axes would not show


def test_ink_is_darker_than_the_paper_around_it() -> None:
    """A disc of ink, photographed often: its middle is darker than the corners, if by little when faint."""
    disc = np.zeros((200, 8, 8, 1), np.uint8)
    disc[:, 2:6, 2:6] = 16
    taken = photograph(disc, np.random.default_rng(3)).astype(float).mean(axis=3)
    middle = taken[:, HEIGHT // 2 - 3 : HEIGHT // 2 + 3, WIDTH // 2 - 3 : WIDTH // 2 + 3].mean(axis=(1, 2))
    around = taken[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean(axis=1)
    assert (middle < around).mean() > 0.95
    faintest, darkest = np.quantile(around - middle, [0.1, 0.9])
    assert faintest < 5
    assert darkest > 50


def test_no_photograph_is_in_two_sets(sets: dict[str, Split]) -> None:
    contents = {name: {image.tobytes() for image in images} for name, (images, _) in sets.items()}
    assert {name: len(kept) for name, kept in contents.items()} == {
        "evaluation": 540,
        "calibration": 100,
        "golden": 20,
    }
    for one, other in itertools.combinations(contents, 2):
        assert not contents[one] & contents[other]


def test_it_learns(model: MobileNet, sets: dict[str, Split]) -> None:
    assert accuracy(model, sets["evaluation"]) > FLOOR


def test_the_exported_program_is_the_model_the_recipe_describes(
    model: MobileNet, sets: dict[str, Split], tmp_path: Path
) -> None:
    write(tmp_path, model, sets)
    recipe = load_recipe(REPOSITORY / "models" / "mobilenet" / "recipe.toml")
    (plan,) = recipe.inputs
    images = sets["golden"][0]
    assert plan.tensor.shape == (-1, *images.shape[1:])
    program = torch.export.load(tmp_path / "mobilenet.pt2").module()
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    with torch.no_grad():
        scores = program(tensor)
        torch.testing.assert_close(scores, model(tensor), atol=1e-5, rtol=0)
    assert scores.shape == (len(images), len(recipe.labels))
    for name, (images, labels) in sets.items():
        with np.load(tmp_path / f"{name}.npz", allow_pickle=False) as archive:
            np.testing.assert_array_equal(archive["image"], images)
            np.testing.assert_array_equal(archive["label"], labels)
