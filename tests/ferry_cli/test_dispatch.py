from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tomllib
import types
from pathlib import Path
from typing import Any

import pytest

from ferry_cli import __main__ as dispatch
from ferry_cli.__main__ import COMMANDS, Command
from ota_contract import __version__
from ota_contract.errors import FerryError
from tests.ferry_cli.conftest import Ferry

FRAMEWORKS = (
    "numpy",
    "tensorflow",
    "fastapi",
    "pydantic",
    "sqlalchemy",
    "onnx",
    "onnxruntime",
    "tuf",
    "rich",
    "urllib3",
)


def python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A subcommand `try` that does what a test tells it to."""
    module = types.ModuleType("a_command_under_test", "Do as told.\n\nMore on it.")
    module.configure = lambda parser: parser.add_argument("--json", action="store_true")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(COMMANDS, "try", Command(module.__name__, "do as told", "cli"))
    return module


def test_the_overview_names_every_command(ferry: Ferry) -> None:
    for argument in ("--help", "-h", "help"):
        result = ferry(argument)
        assert (result.code, result.err) == (0, "")
        for name, entry in COMMANDS.items():
            assert f"  {name} " in result.out
            assert entry.help in result.out


def test_no_command_at_all_is_usage(ferry: Ferry) -> None:
    assert ferry().code == 2


def test_the_overview_imports_no_framework() -> None:
    code = (
        "import sys; from ferry_cli.__main__ import main; main(['--help']);"
        f"found = [name for name in {FRAMEWORKS!r} if name in sys.modules];"
        "sys.exit(str(found) if found else 0)"
    )
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_imports_its_own_package_alone() -> None:
    code = (
        "import sys; from ferry_cli.__main__ import main\n"
        "try: main(['cohort', '--help'])\n"
        "except SystemExit: pass\n"
        "print(json.dumps([n for n in sys.modules if n.split('.')[0] in "
        "('converter', 'ota_server', 'device_sdk', 'edge_runtime', 'numpy')]))"
    )
    done = python("-c", f"import json; {code}")
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_the_version_is_the_distributions(ferry: Ferry) -> None:
    for argument in ("--version", "-V"):
        assert ferry(argument).out == f"ferry {__version__}\n"


def test_an_unknown_command_is_usage_in_one_line(ferry: Ferry) -> None:
    result = ferry("deploy")
    assert (result.code, result.out) == (2, "")
    assert result.err == "ferry: no command 'deploy'; `ferry --help` lists them\n"


@pytest.mark.parametrize(
    "name", [name for name, entry in COMMANDS.items() if entry.module.startswith("ferry_cli")]
)
def test_every_fleet_command_explains_itself(ferry: Ferry, name: str) -> None:
    result = ferry(name, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"usage: ferry {name}" in result.out
    module = importlib.import_module(COMMANDS[name].module)
    assert module.__doc__ is not None
    assert module.__doc__.splitlines()[0] in result.out


@pytest.mark.parametrize("name", ["cohort", "device", "rollout", "release", "model"])
def test_a_missing_action_is_usage(ferry: Ferry, name: str) -> None:
    result = ferry(name)
    assert result.code == 2
    assert "usage:" in result.err


def test_the_exit_code_is_the_commands(ferry: Ferry, command: types.ModuleType) -> None:
    command.run = lambda _: 7  # type: ignore[attr-defined]
    assert ferry("try").code == 7
    assert ferry("try", "--nonsense").code == 2


def test_an_error_of_ours_is_one_line_and_1(ferry: Ferry, command: types.ModuleType) -> None:
    def fail(_: object) -> int:
        raise FerryError("it went wrong\n  on several\tlines")

    command.run = fail  # type: ignore[attr-defined]
    result = ferry("try")
    assert (result.code, result.out) == (1, "")
    assert result.err == "ferry: it went wrong on several lines\n"


def test_a_missing_dependency_names_its_extra(ferry: Ferry, command: types.ModuleType) -> None:
    def fail(_: object) -> int:
        raise ModuleNotFoundError("No module named 'keras'", name="keras")

    command.run = fail  # type: ignore[attr-defined]
    result = ferry("try")
    assert result.code == 1
    assert result.err == "ferry: keras is not installed: pip install 'edge-ferry[cli]'\n"


def test_ctrl_c_ends_in_a_word_and_130(ferry: Ferry, command: types.ModuleType) -> None:
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    command.run = interrupt  # type: ignore[attr-defined]
    result = ferry("try")
    assert result.code == 130
    assert result.err.count("\n") == 1


def test_an_error_that_is_not_ours_is_not_hidden(ferry: Ferry, command: types.ModuleType) -> None:
    def fail(_: object) -> int:
        raise ZeroDivisionError

    command.run = fail  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError):
        ferry("try")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["cohort", "--help"], ["--version"]])
def test_a_reader_that_has_seen_enough_is_no_failure(arguments: list[str], unbuffered: str) -> None:
    """`ferry … | head`: no traceback, and no exit code of a failure."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ferry_cli", *arguments],
            stdout=writer,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_command_names_an_extra_of_the_distribution() -> None:
    project = tomllib.loads((Path(dispatch.__file__).parents[1] / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].keys()
    for entry in COMMANDS.values():
        assert set(entry.extra.split(",")) <= extras
