"""A later conversion runs what depends on a change, and nothing else; what it makes is the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from converter.conversion import convert
from converter.errors import ConverterError, PassError, Reason
from converter.progress import Silent
from converter.schedule import KNOWN
from tests.converter.onnx_models import mlp
from tests.converter.processes import await_end, children_of
from tests.converter.recipes import write_tiny

ROWS = np.random.default_rng(3).normal(size=(24, 7)).astype(np.float32)
MAKE_INTEGERS = "onnx-fp32 → onnx-int8"
OF_INTEGERS = {
    MAKE_INTEGERS,
    "evaluate onnx-int8",
    "examine the layers of onnx-int8",
    "measure onnx-int8",
}


class Watch(Silent):
    """Remembers which steps ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self._lock = threading.Lock()

    def finished(self, step: str, seconds: float, note: str = "") -> None:  # noqa: ARG002 - a protocol
        """See `Progress`."""
        with self._lock:
            if note != KNOWN:
                self.ran.append(step)


class Case:
    """A recipe, and conversions of it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        onnx.save(mlp(), folder / "model.onnx")
        labels = np.arange(24) % 4
        variants = (("onnx", "fp32"), ("onnx", "int8"))
        self.recipe = write_tiny(
            folder,
            folder / "model.onnx",
            ROWS,
            labels,
            framework="onnx",
            shape=(-1, 7),
            classes=4,
            variants=variants,
            max_drop=0.6,
        )
        self.text = self.recipe.read_text()
        self.count = 0

    def convert(self, *, results: bool = True) -> tuple[set[str], dict[str, bytes]]:
        """The steps that ran, and the package's files."""
        self.count += 1
        output, watch = self.recipe.parent / f"package-{self.count}", Watch()
        convert(self.recipe, output, progress=watch, results=results)
        return set(watch.ran), {
            path.relative_to(output).as_posix(): path.read_bytes()
            for path in output.rglob("*")
            if path.is_file()
        }

    def replace(self, found: str, replaced: str) -> None:
        """Change the recipe as it was at first."""
        assert found in self.text
        self.recipe.write_text(self.text.replace(found, replaced))

    def nudge(self, name: str) -> None:
        """Change the values of a data set."""
        path = self.recipe.parent / f"{name}.npz"
        with np.load(path) as archive:
            arrays = dict(archive)
        arrays["x"] *= np.float32(1.5)
        np.savez(path, **arrays)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Converted once, with a cache of its own."""
    folder = tmp_path_factory.mktemp("second")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FERRY_CACHE", str(folder / "cache"))
        case = Case(folder / "case")
        ran, _ = case.convert()
    assert {"ask the source model", MAKE_INTEGERS, "evaluate onnx-int8", "measure onnx-int8"} < ran
    return case


@pytest.fixture(autouse=True)
def own_cache(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRY_CACHE", str(case.recipe.parents[1] / "cache"))


def test_nothing_changed_so_nothing_runs(case: Case) -> None:
    ran, files = case.convert()
    assert ran == set()
    without, same = case.convert(results=False)
    assert same == files
    assert {"ask the source model", "evaluate onnx-fp32"} <= without


@pytest.mark.parametrize(
    ("change", "runs"),
    [
        (lambda case: case.replace("counter = 1", "counter = 2"), set()),
        (lambda case: case.replace("max_drop = 0.6", "max_drop = 0.7"), set()),
        (
            lambda case: case.replace(
                'precision = "int8"', 'precision = "int8"\ncalibration = "entropy"\nreduce_range = false'
            ),
            OF_INTEGERS,
        ),
        (lambda case: case.nudge("calibration"), OF_INTEGERS),
        (
            lambda case: case.nudge("evaluation"),
            {"ask the source model", "evaluate onnx-fp32", "evaluate onnx-int8"},
        ),
    ],
    ids=["counter", "goal", "option", "calibration", "evaluation"],
)
def test_a_change_reruns_what_depends_on_it(
    case: Case, change: Callable[[Case], None], runs: set[str]
) -> None:
    change(case)
    ran, _ = case.convert()
    case.recipe.write_text(case.text)
    assert ran == runs


def test_a_damaged_result_is_made_again(case: Case) -> None:
    _, before = case.convert()
    results = case.recipe.parents[1] / "cache" / "results"
    damaged = [path for path in results.rglob("files/model.onnx") if path.write_bytes(b"damage")]
    assert damaged
    ran, after = case.convert()
    assert MAKE_INTEGERS in ran
    assert after == before
    assert case.convert()[0] == set()


def test_a_failure_is_not_remembered(case: Case) -> None:
    """A pass that ran out of time has said nothing of the model."""
    case.replace("[goal]", "[limits]\ntimeout_s = 0.1\n[goal]")
    case.nudge("evaluation")
    for _ in range(2):
        with pytest.raises(PassError) as caught:
            case.convert()
        assert caught.value.reason is Reason.TIMEOUT
    case.recipe.write_text(case.text)
    assert "ask the source model" in case.convert()[0]


def test_a_killed_conversion_leaves_cache_and_package_whole(case: Case, tmp_path: Path) -> None:
    """SIGKILL while results are being kept; the next conversion goes on from what is whole."""
    _, expected = case.convert()
    cache, output = tmp_path / "cache", tmp_path / "package"
    output.mkdir()
    (output / "release.json").write_text("older")
    environment = {**os.environ, "FERRY_CACHE": str(cache), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "ferry_cli", "convert", str(case.recipe), "-o", str(output)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(cache.glob("results/*/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    children = children_of(process.pid)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert (output / "release.json").read_text() == "older"
    await_end(children)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "known from before" in done.stderr
    assert {name for name in expected if name.startswith("variants/")} == {
        path.relative_to(output).as_posix() for path in (output / "variants").rglob("*") if path.is_file()
    }
    for name, content in expected.items():
        if name.startswith("variants/"):
            assert (output / name).read_bytes() == content


def test_two_conversions_at_once_share_a_cache(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRY_CACHE", str(case.recipe.parent / "shared"))
    failures: list[ConverterError] = []
    packages: list[dict[str, bytes]] = []

    def run(name: str) -> None:
        output = case.recipe.parent / name
        try:
            convert(case.recipe, output)
        except ConverterError as error:
            failures.append(error)
        packages.append({path.name: path.read_bytes() for path in output.rglob("model.*")})

    both = [threading.Thread(target=run, args=(name,)) for name in ("left", "right")]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert failures == []
    assert packages[0] == packages[1]
    assert case.convert()[0] == set()
