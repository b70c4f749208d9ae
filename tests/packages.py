"""The digits model and its package, made once per test session and shared by all its processes.

  package = digits_package(session_folder(tmp_path_factory))

A lock file keeps the second worker of pytest-xdist waiting until the first has trained and converted.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = [
    "RECIPE",
    "REPOSITORY",
    "cache_environment",
    "digits_model",
    "digits_package",
    "made_once",
    "session_folder",
]

REPOSITORY = Path(__file__).resolve().parent.parent
RECIPE = REPOSITORY / "models" / "digits" / "recipe.toml"

_TRAIN = REPOSITORY / "models" / "digits" / "train.py"


def session_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder all processes of this run share, and no other run does."""
    base = factory.getbasetemp()
    # pytest-xdist gives every worker a folder below the run's; without it, the parent is every run's.
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def digits_model(session: Path, *, epochs: int = 8, gain_table: bool = False) -> Path:
    """A folder with `digits.keras` and its data sets, as `models/digits/train.py` writes them."""
    name = f"digits-model-{epochs}{'-gain' if gain_table else ''}"
    arguments = ["--epochs", str(epochs), *(["--gain-table"] if gain_table else [])]
    with made_once(session, name) as (folder, there):
        if not there:
            _run(session, str(_TRAIN), "--out", str(folder), *arguments)
    return folder


def digits_package(session: Path, *, epochs: int = 8, gain_table: bool = False) -> Path:
    """The package `ferry convert` makes of it; do not write into it."""
    model = digits_model(session, epochs=epochs, gain_table=gain_table)
    with made_once(session, model.name.replace("model", "package")) as (folder, there):
        if not there:
            _run(session, *_CONVERT, str(RECIPE), "-o", str(folder), *_inputs(model))
    return folder


def cache_environment(session: Path) -> dict[str, str]:
    """The environment with a measurement cache of the session's own."""
    return {**os.environ, "FERRY_CACHE": str(session / "ferry-cache")}


_CONVERT = ("-m", "ferry_cli", "convert")


def _inputs(model: Path) -> tuple[str, ...]:
    return ("--source", str(model / "digits.keras"), "--data", str(model))


def _run(session: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=cache_environment(session),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{arguments[0]} ended with {done.returncode}: {done.stderr[-2000:]}")


@contextmanager
def made_once(session: Path, name: str) -> Iterator[tuple[Path, bool]]:
    """A folder, and whether it was made before; a block that raises leaves it to be made again."""
    marker = session / f"{name}.done"
    with (session / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield session / name, marker.exists()
        marker.touch()
