"""models/wine: what it trains is a source that the converter accepts, with sets that do not overlap."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from converter.datasets import load_datasets
from converter.recipe import Overrides, load_recipe
from converter.source_file import check_source
from tests.packages import REPOSITORY

FOLDER = REPOSITORY / "models" / "wine"


def test_the_recipe_accepts_what_the_script_writes(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "train.py"), "--out", str(tmp_path), "--trees", "3"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(done.stdout.partition("accuracy ")[2].split()[0]) > 0.8
    overrides = Overrides(source=tmp_path / "wine.skops", data=tmp_path)
    recipe = load_recipe(FOLDER / "recipe.toml", overrides)
    assert len(check_source(recipe)) == 64
    sets = load_datasets(recipe)
    assert [len(sets.calibration), len(sets.evaluation), len(sets.golden)] == [86, 80, 12]
