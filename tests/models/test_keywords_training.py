"""The keyword model: its sets are apart, its front end is the recipe's, and it becomes a package."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from converter.conversion import convert
from converter.measurements import MeasurementCache
from converter.recipe import Overrides, load_recipe
from edge_runtime.golden_check import check_golden
from edge_runtime.loading import load
from edge_runtime.package import open_package
from edge_runtime.preprocessing import Preprocessing
from models.keywords.speech import PHONES, SAMPLES, WORDS, said, silence
from models.keywords.train import LABELS, SPLITS, make_split, other_word, spectra
from ota_contract.manifest import VerificationStatus
from tests.packages import REPOSITORY

RECIPE = REPOSITORY / "models" / "keywords" / "recipe.toml"
FLOOR = 0.7
"""What four epochs reach, less a margin for another machine; a guess is right in one of ten."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keywords")
    command = [sys.executable, "-m", "models.keywords.train", "--epochs", "4", "--out", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "on 1000 evaluation waves" in done.stdout
    return folder


def test_no_wave_is_in_two_sets() -> None:
    names = ("evaluation", "calibration", "golden")
    waves = {name: {wave.tobytes() for wave in make_split(name)[0]} for name in names}
    assert {name: len(kept) for name, kept in waves.items()} == {name: SPLITS[name] for name in names}
    for one, other in itertools.combinations(names, 2):
        assert not waves[one] & waves[other]


def test_a_set_is_the_same_every_time_and_has_as_much_of_each_label() -> None:
    (waves, labels), (again, _) = make_split("calibration"), make_split("calibration")
    np.testing.assert_array_equal(waves, again)
    assert np.bincount(labels).tolist() == [SPLITS["calibration"] // len(LABELS)] * len(LABELS)
    assert waves.dtype == np.int16
    assert waves.shape == (SPLITS["calibration"], SAMPLES)


def test_a_word_is_never_cut_short_by_more_than_the_second_ends() -> None:
    generator = np.random.default_rng(3)
    for word in WORDS:
        wave = said(word, generator)
        assert wave.shape == (SAMPLES,)
        assert 0.02 < np.abs(wave).max() <= 1.0
    assert np.abs(silence(generator)).max() <= 1.0


def test_every_keyword_is_made_of_known_sounds() -> None:
    assert set("".join(WORDS)) <= set(PHONES)


def test_an_unknown_word_is_no_keyword() -> None:
    generator = np.random.default_rng(4)
    words = [other_word(generator) for _ in range(500)]
    assert not set(words) & set(WORDS)
    near = sum(any(_apart(word, keyword) == 1 for keyword in WORDS) for word in words)
    assert near > len(words) / 2


def test_training_hears_what_the_recipe_describes() -> None:
    recipe = load_recipe(RECIPE)
    assert recipe.labels == LABELS
    (tensor,) = (plan.tensor for plan in recipe.inputs)
    heard = spectra(make_split("golden")[0])
    assert heard.shape[1:] == tensor.shape[1:]
    assert np.isfinite(heard).all()
    assert heard.std() > 1.0


def test_a_short_training_becomes_a_package_that_hears_waves(model: Path, tmp_path: Path) -> None:
    """The whole way, from a wave to the answer of a device, for an integer and a float variant."""
    recipe = tmp_path / "recipe.toml"
    text, _, _ = RECIPE.read_text().partition("[[variant]]")
    asked = [f'[[variant]]\nruntime = "{runtime}"\nprecision = "int8"\n' for runtime in ("tflite", "onnx")]
    recipe.write_text(text + "[search]\nsensitivity_s = 0.0\n" + "".join(asked))
    overrides = Overrides(source=model / "keywords.keras", data=model)
    cache = MeasurementCache(tmp_path / "cache")
    package = convert(recipe, tmp_path / "package", overrides=overrides, cache=cache).path
    release, _ = open_package(package)
    preprocessing = Preprocessing.of_release(release, package)
    golden = (package / release.golden.file.path).read_bytes()
    with np.load(model / "evaluation.npz") as archive:
        waves, labels = archive["sound"][:200], archive["label"][:200]
    for variant_id in ("tflite-int8", "onnx-int8"):
        variant = release.variant(variant_id)
        assert variant.verification.status is VerificationStatus.PASSED
        quality = variant.metrics.quality
        assert quality is not None
        assert quality.value_ppm > FLOOR * 1_000_000
        loaded = load(release, variant, package)
        assert check_golden(loaded, release, variant, golden, folder=package) == SPLITS["golden"]
        answers = [
            loaded.run(preprocessing.prepare({"sound": wave[None]}))["scores"].argmax() for wave in waves
        ]
        assert np.mean(answers == labels) > FLOOR


def _apart(one: str, other: str) -> int:
    """Sounds in which two words of one length differ; many where the lengths do."""
    return sum(a != b for a, b in zip(one, other, strict=True)) if len(one) == len(other) else 99
