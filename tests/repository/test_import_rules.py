"""The import rules hold, and each of them would notice a violation."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("ota_contract", "edge_runtime", "converter", "ota_server", "device_sdk", "ferry_cli")

PRODUCTS = "Products never import each other; everything stands on the contract"
SERVER = "The server's layers: app, then api | adapters, then operations, then domain"
PURE = "The contract and the domain know no framework"
LIGHT = "The device carries no server or training framework"
TRUST = "Only the trust layer verifies TUF metadata on the device"

# Where an import is planted, what it says, and the rule that must be broken by it.
VIOLATIONS = [
    ("ota_contract/planted.py", "import edge_runtime.port", PRODUCTS),
    ("ota_contract/planted.py", "import device_sdk.errors", PRODUCTS),
    ("edge_runtime/planted.py", "import converter.errors", PRODUCTS),
    ("edge_runtime/planted.py", "import ferry_cli.errors", PRODUCTS),
    ("device_sdk/planted.py", "import ota_server.errors", PRODUCTS),
    ("device_sdk/planted.py", "import ferry_cli.errors", PRODUCTS),
    ("converter/planted.py", "import device_sdk.errors", PRODUCTS),
    ("converter/planted.py", "import ota_server.errors", PRODUCTS),
    ("ota_server/planted.py", "import converter.errors", PRODUCTS),
    ("device_sdk/planted.py", "def late() -> None:\n    import ota_server.errors", PRODUCTS),
    ("ota_server/domain/planted.py", "import ota_server.operations.planted_target", SERVER),
    ("ota_server/domain/planted.py", "import ota_server.adapters.planted_target", SERVER),
    ("ota_server/operations/planted.py", "import ota_server.adapters.planted_target", SERVER),
    ("ota_server/operations/planted.py", "import ota_server.api.planted_target", SERVER),
    ("ota_server/adapters/planted.py", "import ota_server.api.planted_target", SERVER),
    ("ota_server/api/planted.py", "import ota_server.adapters.planted_target", SERVER),
    ("ota_server/api/planted.py", "import ota_server.app", SERVER),
    ("ota_contract/planted.py", "import numpy", PURE),
    ("ota_contract/planted.py", "import tuf.api.metadata", PURE),
    ("ota_server/domain/planted.py", "import fastapi", PURE),
    ("ota_server/domain/planted.py", "import sqlalchemy.orm", PURE),
    ("device_sdk/planted.py", "import pydantic", LIGHT),
    ("device_sdk/planted.py", "import tensorflow", LIGHT),
    ("device_sdk/planted.py", "import rich.console", LIGHT),
    ("device_sdk/planted.py", "import tuf.ngclient", TRUST),
    ("device_sdk/planted.py", "import securesystemslib.signer", TRUST),
]


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages and their rules in a folder of their own."""
    folder = tmp_path_factory.mktemp("packages")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    # Modules that every planted import can name, whatever the server's own are called.
    for layer in ("api", "adapters", "operations", "domain"):
        (folder / "ota_server" / layer).mkdir(exist_ok=True)
        (folder / "ota_server" / layer / "__init__.py").touch()
        (folder / "ota_server" / layer / "planted_target.py").write_text("")
    (folder / "ota_server" / "app.py").touch()
    for package in PACKAGES:
        (folder / package / "__init__.py").touch()
        (folder / package / "errors.py").touch()
    return folder


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on a copy; the copy's packages are found before the installed ones."""
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1));"
        "from importlinter.cli import lint_imports_command; lint_imports_command()"
    )
    command = [sys.executable, "-c", program, str(folder), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def broken(output: str) -> set[str]:
    """The rules reported as broken; long names are wrapped over lines."""
    flat = " ".join(output.split())
    return {name for name in (PRODUCTS, SERVER, PURE, LIGHT, TRUST) if f"{name} BROKEN" in flat}


def test_the_packages_keep_every_rule(copied: Path) -> None:
    done = lint_imports(copied)
    assert done.returncode == 0, done.stdout
    assert broken(done.stdout) == set()
    assert "5 kept, 0 broken" in " ".join(done.stdout.split())


@pytest.mark.parametrize(("path", "code", "rule"), VIOLATIONS, ids=lambda item: str(item).replace("\n", " "))
def test_a_violation_is_noticed(copied: Path, path: str, code: str, rule: str) -> None:
    planted = copied / path
    planted.write_text(f"{code}\n")
    try:
        done = lint_imports(copied)
    finally:
        planted.unlink()
    assert done.returncode != 0
    assert rule in broken(done.stdout), done.stdout


def test_every_rule_has_a_violation_planted() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert {rule["name"] for rule in rules} == {rule for _, _, rule in VIOLATIONS}
