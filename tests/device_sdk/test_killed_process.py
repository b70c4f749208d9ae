"""SIGKILL at random instants of a real update in a real process: nothing bricked, nothing half-installed."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.devices import Device

KILLS = 30


def start(device: Device) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "device_sdk", "run", "--config", str(device.config_path)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def time_of_an_update(device: Device) -> float:
    began = time.monotonic()
    process = start(device)
    while device.live != "1.1.0":
        assert time.monotonic() - began < 60
        time.sleep(0.01)
    took = time.monotonic() - began
    process.kill()
    process.wait()
    return took


def test_killed_at_random_instants_a_device_runs_the_old_or_the_new_release(
    old_device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = time_of_an_update(old_device.copy(tmp_path / "measure"))
    draw = random.Random(7)  # noqa: S311 - instants, not secrets
    reached: dict[str | None, int] = {}
    for number in range(KILLS):
        twin = old_device.copy(tmp_path / f"twin-{number}")
        process = start(twin)
        time.sleep(draw.uniform(0.3, 1.15) * took)
        process.kill()
        process.wait()
        answer = twin.predict()  # raises if nothing can answer
        assert answer.answered_by == "live"
        assert answer.release == twin.live
        assert answer.release in ("1.0.0", "1.1.0")
        reached[twin.update] = reached.get(twin.update, 0) + 1
        monkeypatch.setattr("device_sdk.updater.self_test", lambda *_, **__: 3)
        twin.clock.advance(hours=7)
        sentence = twin.poll()
        assert twin.live == "1.1.0", sentence
        assert twin.predict().release == "1.1.0"
        shutil.rmtree(twin.folder)
    assert len(reached) >= 3, f"the kills all fell into one state: {reached}"
