"""What is imported, and what importing costs and does."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "fastapi", "pydantic", "tensorflow", "sqlalchemy", "onnx", "onnxruntime", "ai_edge_litert")


def modules_after(code: str) -> set[str]:
    """The top-level packages in memory after some code, in a process of its own."""
    program = (
        f"{code}\nimport json, sys\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_device_sdk_loads_no_framework() -> None:
    assert not modules_after("import device_sdk").intersection(HEAVY)


def test_the_update_agent_alone_loads_no_runtime() -> None:
    """All public names of the SDK: a runtime comes with the first model that is loaded, not before."""
    code = "import device_sdk\nfor name in device_sdk.__all__: getattr(device_sdk, name)"
    found = modules_after(code)
    assert not found.intersection(HEAVY)
    assert "edge_runtime" not in found


def test_the_servers_package_loads_no_framework_before_it_makes_an_app() -> None:
    assert not modules_after("import ota_server").intersection(HEAVY)


@pytest.mark.parametrize("package", ["ota_contract", "ota_server/domain"])
def test_pure_packages_import_the_standard_library_and_each_other_alone(package: str) -> None:
    own = {"ota_contract"} | ({"ota_server"} if package.startswith("ota_server") else set())
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                names = [node.module or ""]
            for name in names:
                top = name.split(".")[0]
                assert top in sys.stdlib_module_names or top in own, (
                    f"{path.relative_to(ROOT)} imports {name}"
                )


@pytest.mark.parametrize("package", ["ota_contract", "ota_server/domain"])
def test_pure_packages_have_no_way_to_the_world(package: str) -> None:
    """No input or output, no clock, no environment, no chance: those are passed in."""
    worldly = {
        "os",
        "io",
        "socket",
        "subprocess",
        "random",
        "secrets",
        "time",
        "urllib",
        "http",
        "tempfile",
        "uuid",
    }
    for path in sorted((ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert not worldly.intersection(alias.name.split(".")[0] for alias in node.names), path
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in worldly, path
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("open", "datetime.now", "datetime.utcnow", "print", "input"), path
