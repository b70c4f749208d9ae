"""The golden self-test in a child process: nothing a model does there reaches the agent."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device_sdk.errors import SelfTestError
from device_sdk.self_test import SelfTestLimits, self_test
from ota_contract.manifest import MANIFEST_NAME
from tests.support.devices import AT_ONCE, Device, complete, settle
from tests.support.fleet import TestServer
from tests.support.tiny import TinyRelease, write_package

Behind = Callable[..., Device]
VARIANT = "onnx-fp32"
LIMITS = SelfTestLimits()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    write_package(tmp_path / "package", TinyRelease())
    return tmp_path / "package"


def check(package: Path, limits: SelfTestLimits = LIMITS) -> int:
    return self_test(package, VARIANT, threads=1, limits=limits)


def test_a_good_package_passes_all_its_vectors(package: Path) -> None:
    assert check(package) == 3


def test_wrong_answers_are_told_with_by_how_much(tmp_path: Path) -> None:
    write_package(tmp_path / "wrong", TinyRelease(golden_is_wrong=True))
    with pytest.raises(SelfTestError, match=r"output scores is off by .*at most 0\.0001 allowed"):
        check(tmp_path / "wrong")


def test_a_golden_file_with_fewer_vectors_than_promised_fails(package: Path) -> None:
    manifest = package / MANIFEST_NAME
    manifest.write_bytes(manifest.read_bytes().replace(b'"vectors":3', b'"vectors":4'))
    with pytest.raises(SelfTestError, match="holds 3 vectors, the manifest says 4"):
        check(package)


def test_a_model_that_cannot_be_opened_fails(package: Path) -> None:
    (package / "variants/onnx-fp32/model.onnx").write_bytes(b"not a model")
    with pytest.raises(SelfTestError, match="onnxruntime cannot open"):
        check(package)


def test_a_missing_golden_file_fails(package: Path) -> None:
    (package / "golden.json").unlink()
    with pytest.raises(SelfTestError, match=r"golden\.json"):
        check(package)


def test_a_child_that_hangs_is_ended(package: Path) -> None:
    with pytest.raises(SelfTestError, match=r"did not end within 0\.01 s"):
        check(package, SelfTestLimits(seconds=0.01))


def test_a_child_that_eats_memory_is_ended(package: Path) -> None:
    with pytest.raises(SelfTestError):
        check(package, SelfTestLimits(memory_bytes=64 * 2**20))


@pytest.mark.parametrize(
    ("code", "stdout", "says"),
    [
        (-signal.SIGSEGV, b"", "ended its process by signal 11"),
        (-signal.SIGKILL, b'{"passed": 3}\n', "ended its process by signal 9"),
        (3, b"", "ended with 3 and no result"),
        (0, b"hello\n", "ended with 0 and no result"),
        (0, b"5\n", "gave no result"),
        (0, b"[]\n", "gave no result"),
        (0, b'{"passed": "3"}\n', "gave no result"),
        (1, b'{"error": "no"}\n', "^no$"),
    ],
)
def test_a_child_that_ends_in_any_other_way_has_failed(
    package: Path, monkeypatch: pytest.MonkeyPatch, code: int, stdout: bytes, says: str
) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, code, stdout, b"")

    monkeypatch.setattr("device_sdk.self_test.subprocess.run", run)
    with pytest.raises(SelfTestError, match=says):
        check(package)


def test_a_child_that_cannot_be_started_is_told(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device_sdk.self_test.sys.executable", "/nonexistent")
    with pytest.raises(SelfTestError, match="could not be started"):
        check(package)


def test_a_release_that_fails_does_not_go_live_and_waits_to_be_named_anew(
    own_server: TestServer, behind: Behind
) -> None:
    device = behind(own_server)
    settle(device)
    own_server.publish(TinyRelease(version="1.2.0", counter=3, golden_is_wrong=True))
    complete(own_server, "1.2.0")
    assert "is off by" in device.poll()
    assert (device.live, device.update) == ("1.0.0", "failed")
    assert device.state.candidate is None
    assert device.predict().release == "1.0.0"
    # Not tried again: not at once, not after days, not by another process.
    before = device.footprint()
    for _ in range(2):
        device.clock.advance(hours=20)
        assert "is not tried again" in device.poll()
        assert device.footprint().state == before.state
    # A new rollout names it anew; it is tried, and fails again.
    own_server.clock.advance(seconds=1)
    own_server.roll_out("1.2.0", stages=[{**AT_ONCE[0], "min_healthy": 99}])
    assert "is off by" in device.poll()
    assert "is not tried again" in device.poll()
    assert device.live == "1.0.0"


def test_a_hanging_release_does_not_go_live(
    own_server: TestServer, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = behind(own_server)
    settle(device)
    complete(own_server, "1.1.0")
    monkeypatch.setattr("device_sdk.updater.SelfTestLimits", lambda: SelfTestLimits(seconds=0.01))
    assert "did not end within" in device.poll()
    assert (device.live, device.update) == ("1.0.0", "failed")
