"""The demonstration is the scenario of scenarios: every product, as real processes over real HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(600)

_ROOT = Path(__file__).resolve().parents[2]
_DEVICES = 24
_VARIANTS = {
    ("tflite", "fp32"),
    ("tflite", "int8"),
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("coreml", "fp16"),
}


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The summary of one whole run."""
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--devices", str(_DEVICES)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    logs = "\n".join(
        f"== {path.name}\n{path.read_text()[-2000:]}" for path in folder.glob("build/demo/logs/*.log")
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr}\n{logs if done.returncode else ''}"
    assert not (folder / "build/demo/work").exists()
    assert "The whole journey took" in done.stdout
    summary: dict[str, Any] = json.loads((folder / "build/demo/summary.json").read_text())
    return summary


def test_every_variant_is_proven(summary: dict[str, Any]) -> None:
    first = [item for item in summary["variants"] if item["release"] == "1.0.0"]
    assert {(item["runtime"], item["precision"]) for item in first} == _VARIANTS
    for item in summary["variants"]:
        assert item["verification"] == "passed"
        assert item["quality_n"] >= 500
        assert item["quality"] > 0.9


def test_good_releases_complete_and_the_bad_one_turns_itself_back(summary: dict[str, Any]) -> None:
    outcomes = {item["release"]: item for item in summary["rollouts"]}
    assert {version: item["outcome"] for version, item in outcomes.items()} == {
        "1.0.0": "completed",
        "1.1.0": "completed",
        "1.2.0": "rolled_back",
    }
    assert outcomes["1.0.0"]["devices_exposed"] == outcomes["1.1.0"]["devices_exposed"] == _DEVICES
    assert 0 < outcomes["1.2.0"]["devices_exposed"] < _DEVICES
    assert re.search(r"candidate (inferences )?failed", outcomes["1.2.0"]["why"])


def test_every_device_ends_on_the_good_release(summary: dict[str, Any]) -> None:
    assert summary["devices"] == {"total": _DEVICES, "on": {"1.1.0": _DEVICES}}


def test_a_device_without_its_model_is_answered_by_the_cloud(summary: dict[str, Any]) -> None:
    assert summary["fallback"]["answered_by"] == "cloud"
    assert summary["fallback"]["latency_ms"] > 0


def test_every_device_refuses_tampered_bytes_and_none_moves(summary: dict[str, Any]) -> None:
    assert summary["tampering"] == {
        "blob_refused": _DEVICES,
        "metadata_refused": _DEVICES,
        "state_moved": 0,
    }


def test_most_polls_find_nothing_new_and_cost_a_304(summary: dict[str, Any]) -> None:
    polls = summary["polls"]
    assert 0 < polls["not_modified"] < polls["total"]


def test_an_interrupted_demonstration_leaves_nothing_running_or_half_written(tmp_path: Path) -> None:
    """Ctrl-C in the middle of the first step, while its children train and convert."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "demo", "--devices", "10"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (children := _below(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "nothing was left running or half-written" in error
    assert _below(tmp_path) == []
    assert sorted(path.name for path in (tmp_path / "build/demo").iterdir()) == ["logs"]


def _below(folder: Path) -> list[int]:
    """Processes whose command names a file below a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if str(folder).encode() in command:
            found.append(int(path.parent.name))
    return found
