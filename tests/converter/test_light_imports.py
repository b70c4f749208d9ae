"""Looking at packages, recipes and help needs no framework."""

from __future__ import annotations

import subprocess
import sys

import pytest

import converter
from tests.packages import RECIPE

FRAMEWORKS = (
    "tensorflow",
    "keras",
    "torch",
    "tf2onnx",
    "onnx",
    "onnxruntime",
    "coremltools",
    "ai_edge_litert",
)


def _loaded(code: str, *, also: tuple[str, ...] = ()) -> str:
    program = f"import sys\n{code}\nprint([name for name in {(*FRAMEWORKS, *also)!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "module", ["converter", "converter.conversion", "converter.commands.convert", "converter.commands.plan"]
)
def test_no_framework_is_imported(module: str) -> None:
    assert _loaded(f"import {module}") == "[]"


def test_inspect_needs_no_numpy() -> None:
    assert _loaded("import converter.commands.inspect", also=("numpy",)) == "[]"


@pytest.mark.parametrize("command", ["convert", "plan", "inspect", "delta", "cache"])
def test_help_is_quick_and_teaches(command: str) -> None:
    code = (
        "import contextlib\nfrom ferry_cli.__main__ import main\n"
        f"with contextlib.suppress(SystemExit):\n    main(['{command}', '--help'])"
    )
    assert _loaded(code, also=("numpy",) if command != "plan" else ()) == "[]"


def test_planning_needs_no_framework() -> None:
    code = f"from ferry_cli.__main__ import main\nmain(['plan', {str(RECIPE)!r}])"
    assert _loaded(code) == "[]"


def test_an_overview_needs_nothing() -> None:
    code = "from ferry_cli.__main__ import main\nmain(['--help'])"
    assert _loaded(code, also=("numpy", "rich", "converter", "ota_server", "edge_runtime")) == "[]"


def test_the_package_offers_its_api_lazily() -> None:
    assert set(converter.__all__) == {"ConverterError", "OpenVariant", "Overrides", "Package", "convert"}
    assert all(getattr(converter, name) is not None for name in converter.__all__)
    assert callable(converter.convert)
    with pytest.raises(AttributeError):
        converter.nothing_of_the_kind  # noqa: B018
