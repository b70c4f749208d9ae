"""Ctrl-C and SIGTERM end a real `ferry convert` with its children, and leave nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.converter.processes import children_of, runs
from tests.converter.recipes import ALL_VARIANTS, recipe_text, write_recipe


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_conversion_leaves_nothing(
    model: Path, tmp_path: Path, number: signal.Signals
) -> None:
    scratch, output = tmp_path / "scratch", tmp_path / "package"
    scratch.mkdir()
    output.mkdir()
    (output / "release.json").write_text("older")
    recipe = write_recipe(tmp_path, recipe_text(model, variants=ALL_VARIANTS))
    process = subprocess.Popen(
        [sys.executable, "-m", "ferry_cli", "convert", str(recipe), "-o", str(output)],
        env={**os.environ, "FERRY_CACHE": str(tmp_path / "cache"), "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        text=True,
    )
    children: list[int] = []
    deadline = time.monotonic() + 60
    while len(children) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
        children = children_of(process.pid)
    assert len(children) == 2
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "ferry: interrupted; nothing was left half-written"
    assert not any(map(runs, children))
    assert list(scratch.iterdir()) == []
    left = {path.name for path in tmp_path.iterdir()} - {"cache"}
    assert left == {"package", "recipe.toml", "scratch"}
    assert list(tmp_path.glob("cache/making/*")) == []
    assert (output / "release.json").read_text() == "older"
