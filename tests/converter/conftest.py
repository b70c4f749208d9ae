"""The digits model, its package, odd models, and the command as a person runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from ferry_cli.__main__ import main
from tests.converter.import_trap import trap_imports
from tests.packages import (
    REPOSITORY,
    cache_environment,
    digits_model,
    digits_package,
    made_once,
    session_folder,
)


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Ferry = Callable[..., Outcome]


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder all test processes of this run share."""
    return session_folder(tmp_path_factory)


@pytest.fixture(scope="session")
def model(session: Path) -> Path:
    """What `models/digits/train.py` wrote."""
    return digits_model(session)


@pytest.fixture(scope="session")
def package(session: Path) -> Path:
    """What `ferry convert` made of it."""
    return digits_package(session)


@pytest.fixture(scope="session")
def odd_models(session: Path, model: Path) -> Path:
    """Models nobody should convert, or not without care."""
    with made_once(session, "odd-models") as (folder, there):
        if not there:
            script = Path(__file__).with_name("odd_models.py")
            command = [sys.executable, str(script), str(model / "digits.keras"), str(folder)]
            subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def torch_models(session: Path) -> Path:
    """PyTorch programs of every family with samples and answers; `odd/` holds what nobody should convert."""
    with made_once(session, "torch-models") as (folder, there):
        if not there:
            command = [sys.executable, "-m", "tests.converter.torch_models", str(folder)]
            subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY)
    return folder


@pytest.fixture
def without_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of passes die when something imports TensorFlow."""
    trap_imports(tmp_path, monkeypatch, ("tensorflow", "keras", "tf2onnx"))


@pytest.fixture
def ferry(
    tmp_path: Path,
    session: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Ferry:
    """Run `ferry …` in a folder of its own, with temporary files where the test can see them."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("FERRY_CACHE", cache_environment(session)["FERRY_CACHE"])
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | os.PathLike[str]) -> Outcome:
        code = main([os.fspath(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return run
