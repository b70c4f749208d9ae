"""Another distribution brings a pass, as docs/plug-ins.md says: installed, planned, run, remembered."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.converter.onnx_models import mlp
from tests.converter.recipes import write_tiny
from tests.packages import REPOSITORY
from tests.support.documentation import blocks

PAGE = "docs/plug-ins.md"
FILES = ("ferry_rounding/__init__.py", "ferry_rounding/rounding.py")
Run = Callable[..., subprocess.CompletedProcess[str]]


def _install(site: Path, *, passes: str | None = None, version: str = "1.0.0") -> Path:
    """What pip leaves of the guide's example: the package and its .dist-info."""
    (entry,), (declared, work) = blocks(PAGE, "toml"), blocks(PAGE, "python")
    (site / "ferry_rounding").mkdir(parents=True, exist_ok=True)
    (site / FILES[0]).write_text(declared if passes is None else passes)
    (site / FILES[1]).write_text(work)
    info = site / "ferry_rounding-1.0.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ferry-rounding\nVersion: {version}\n")
    point = re.search(r"\[project\.entry-points\.\"(.+)\"\]\n(\w+) = \"(.+)\"", entry)
    assert point is not None
    (info / "entry_points.txt").write_text(f"[{point[1]}]\n{point[2]} = {point[3]}\n")
    return site


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    folder = tmp_path / "case"
    folder.mkdir()
    onnx.save(mlp(), folder / "model.onnx")
    rows = np.random.default_rng(3).normal(size=(24, 7)).astype(np.float32)
    return write_tiny(
        folder,
        folder / "model.onnx",
        rows,
        np.arange(24) % 4,
        framework="onnx",
        shape=(-1, 7),
        classes=4,
        variants=(("onnx", "palette8"),),
        max_drop=0.6,
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def ferry(*arguments: str | Path, site: Path | None) -> subprocess.CompletedProcess[str]:
        paths = [str(REPOSITORY), *([str(site)] if site else [])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "FERRY_CACHE": str(tmp_path / "cache"),
        }
        command = [sys.executable, "-m", "ferry_cli", *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return ferry


def _steps_run(printed: str) -> list[str]:
    """The steps of a conversion that were not known; its warnings, of latency say, are no steps."""
    steps = [line for line in printed.splitlines() if line.startswith("[")]
    return [line for line in steps if "known from before" not in line]


def test_a_plug_ins_pass_converts(recipe: Path, run: Run, tmp_path: Path) -> None:
    site = _install(tmp_path / "site")
    without = run("plan", recipe, site=None)
    assert without.returncode == 1
    assert "onnx-palette8: no route gives onnx in palette8" in without.stderr

    planned = json.loads(run("plan", recipe, "--json", site=site).stdout)
    assert [step["id"] for step in planned[0]["passes"]] == ["onnx_to_onnx", "onnx_to_onnx_rounded"]
    assert planned[0]["passes"][1]["needs"]["ferry-rounding"] == "1.0.0"

    package = tmp_path / "package"
    done = run("convert", recipe, "-o", package, site=site)
    assert done.returncode == 0, done.stderr
    model = onnx.load(package / "variants" / "onnx-palette8" / "model.onnx")
    weights = [numpy_helper.to_array(item) for item in model.graph.initializer if item.data_type == 1]
    assert weights
    source = [
        numpy_helper.to_array(item) for item in onnx.load(recipe.parent / "model.onnx").graph.initializer
    ]
    for weight in weights:
        step = np.abs(weight).max() / 128
        assert np.allclose(weight / step, np.round(weight / step), atol=1e-3)
        assert not any(np.array_equal(weight, other) for other in source)
    manifest = json.loads((package / "release.json").read_text())
    assert manifest["toolchain"]["ferry-rounding"] == "1.0.0"
    assert manifest["variants"][0]["verification"]["status"] == "passed"

    again = run("convert", recipe, "-o", package, site=site).stderr
    assert "known from before" in again
    assert _steps_run(again) == []
    with (site / FILES[1]).open("a") as stream:
        stream.write("\nCHANGED = True\n")
    changed = run("convert", recipe, "-o", package, site=site).stderr
    (reran,) = _steps_run(changed)
    assert "onnx-fp32 → onnx-palette8" in reran
    _install(site, version="1.0.1")
    upgraded = run("convert", recipe, "-o", package, site=site).stderr
    (made,) = [line for line in upgraded.splitlines() if "→ onnx-palette8" in line]
    assert "known from before" not in made


HEADER = "from converter.plug_ins import Format, Node, Pass, Precision\n"
NODES = (
    "FLOATS = Node(format=Format.ONNX, layout='NHWC', precision=Precision.FP32)\n"
    "MINE = Node(format=Format.ONNX, layout='NHWC', precision=Precision.PALETTE8)\n"
)


def _pass(**changes: str) -> str:
    given = {"id": "'mine'", "target": "MINE", "module": "'ferry_rounding.rounding'", **changes}
    text = ", ".join(f"{key}={value}" for key, value in given.items())
    return f"{HEADER}{NODES}PASSES = [Pass(source=FLOATS, needs=(), reason='', {text})]\n"


@pytest.mark.parametrize(
    ("passes", "message"),
    [
        ("import not_there_at_all\n", "cannot be loaded: ModuleNotFoundError: No module named 'not_there"),
        ("raise ValueError('two\\nlines')\n", "cannot be loaded: ValueError: two lines"),
        ("OTHER = 1\n", "cannot be loaded: AttributeError"),
        ("PASSES = ['text']\n", "ferry_rounding:PASSES holds a str, not a Pass"),
        ("PASSES = 3\n", "ferry_rounding:PASSES holds a int, not a Pass"),
        (_pass(id="'Not/An id'"), "pass id 'Not/An id': use lower-case"),
        (_pass(module="'rounding'"), "pass mine: `module` must name a module in a package of its own"),
        (_pass(module="'converter.passes.measure'"), "pass mine: `module` must name a module in a package"),
        (_pass(module="'absent_package.work'"), "pass mine: absent_package.work is not there"),
        (_pass(id="'onnx_to_coreml'"), "brings a pass onnx_to_coreml, as Ferry does itself"),
        (_pass() + "PASSES = PASSES * 2\n", "there is a pass mine already"),
    ],
)
def test_a_broken_plug_in_is_one_line_that_names_it(
    recipe: Path, run: Run, tmp_path: Path, passes: str, message: str
) -> None:
    done = run("plan", recipe, site=_install(tmp_path / "site", passes=passes))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert "plug-in" in done.stderr


def test_a_pass_that_has_no_run_is_said_to_have_failed(recipe: Path, run: Run, tmp_path: Path) -> None:
    site = _install(tmp_path / "site")
    (site / FILES[1]).write_text("")
    done = run("convert", recipe, "-o", tmp_path / "package", site=site)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "ferry_rounding.rounding failed (raised): AttributeError" in last
    assert not (tmp_path / "package").exists()
