"""Ctrl-C and SIGTERM end a real `ferry convert` with its children, and leave nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.converter.recipes import ALL_VARIANTS, recipe_text, write_recipe
from tests.packages import cache_environment


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    threads = listed.parent.parent.glob("*/children")
    return [int(child) for path in threads for child in path.read_text().split()]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_conversion_leaves_nothing(
    session: Path, model: Path, tmp_path: Path, number: signal.Signals
) -> None:
    scratch, output = tmp_path / "scratch", tmp_path / "package"
    scratch.mkdir()
    output.mkdir()
    (output / "release.json").write_text("older")
    recipe = write_recipe(tmp_path, recipe_text(model, variants=ALL_VARIANTS))
    process = subprocess.Popen(
        [sys.executable, "-m", "ferry_cli", "convert", str(recipe), "-o", str(output)],
        env={**cache_environment(session), "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        text=True,
    )
    children: list[int] = []
    deadline = time.monotonic() + 60
    while len(children) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
        children = _children(process.pid)
    assert len(children) == 2
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "ferry: interrupted; nothing was left half-written"
    assert not any(map(_runs, children))
    assert list(scratch.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["package", "recipe.toml", "scratch"]
    assert (output / "release.json").read_text() == "older"
