"""The golden self-test in a child process: nothing a model does there reaches the agent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from device_sdk.errors import InterruptedUpdateError, SelfTestError
from device_sdk.self_test import SelfTestLimits, limits_for, self_test
from ota_contract.manifest import MANIFEST_NAME
from tests.support.devices import AT_ONCE, Device, complete, settle
from tests.support.fleet import TestServer
from tests.support.processes import ended, self_tests_of
from tests.support.tiny import TinyRelease, write_package

Behind = Callable[..., Device]
VARIANT = "onnx-fp32"
LIMITS = SelfTestLimits()
MEBIBYTE = 2**20


@pytest.fixture
def package(tmp_path: Path) -> Path:
    write_package(tmp_path / "package", TinyRelease())
    return tmp_path / "package"


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A model that computes for ever: what is a loop's condition never becomes false."""
    write_package(tmp_path / "endless", TinyRelease(never_ends=True))
    return tmp_path / "endless"


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts code where the child imports its runtime: what native code does to its process, done there."""

    def become(code: str) -> None:
        folder = tmp_path / "runtime"
        folder.mkdir()
        (folder / "onnxruntime.py").write_text(f"import ctypes, os, signal, time\n{code}\n")
        monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{Path.cwd()}")

    return become


def check(package: Path, limits: SelfTestLimits = LIMITS, ending: threading.Event | None = None) -> int:
    return self_test(package, VARIANT, threads=1, limits=limits, ending=ending)


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


def test_a_model_that_computes_for_ever_is_ended_by_the_clock(endless: Path) -> None:
    with pytest.raises(SelfTestError, match=r"did not end within 2 s"):
        check(endless, SelfTestLimits(seconds=2))
    assert not self_tests_of(endless)


def test_a_model_that_computes_for_ever_is_ended_by_its_processor_time(endless: Path) -> None:
    """Also where nobody is left to look at the clock: the kernel counts."""
    with pytest.raises(SelfTestError, match="used up its processor time"):
        check(endless, SelfTestLimits(seconds=100, cpu_seconds=2))


def test_a_model_that_eats_memory_is_ended(tmp_path: Path) -> None:
    """A kilobyte of file that asks for 3 GiB at its first inference."""
    write_package(tmp_path / "greedy", TinyRelease(needs_bytes=3 * 2**30))
    with pytest.raises(SelfTestError, match=r"(?i)alloc"):
        check(tmp_path / "greedy", limits_for(32 * MEBIBYTE, 4 * 2**30))


def test_memory_that_is_touched_counts_at_its_limit(tmp_path: Path) -> None:
    """200 MB more than the runtime needs: refused under 256 MiB, fine where the manifest asks for it."""
    write_package(tmp_path / "large", TinyRelease(needs_bytes=200 * MEBIBYTE))
    with pytest.raises(SelfTestError, match=r"(?i)alloc"):
        check(tmp_path / "large", limits_for(0, 512 * MEBIBYTE))
    assert check(tmp_path / "large", limits_for(260 * MEBIBYTE, 2**30)) == 3


@pytest.mark.parametrize(
    ("required", "device", "memory"),
    [
        (64, 4096, 384),  # twice what was measured, and the runtime
        (600, 1024, 1024),  # never more than there is
        (0, 1024, 512),  # not stated: half
        (0, 0, 2048),  # nothing known
        (64, 0, 384),
        (8, 64, 256),  # less and no runtime starts
    ],
)
def test_memory_is_bounded_by_what_the_variant_needs_and_the_device_has(
    required: int, device: int, memory: int
) -> None:
    assert limits_for(required * MEBIBYTE, device * MEBIBYTE).memory_bytes == memory * MEBIBYTE


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("ctypes.string_at(0)", "ended its process by signal 11"),
        ("os.abort()", "ended its process by signal 6"),
        ("os.kill(os.getpid(), signal.SIGKILL)", r"signal 9 \(out of memory\?"),
        ("os._exit(3)", "ended with 3 and no result"),
        ("os._exit(0)", "ended with 0 and no result"),
        ("os.close(1); os.close(2); os._exit(4)", "ended with 4 and no result"),
        ("bytearray(10**12)", "the model needs more than"),
        ("os.fork() or time.sleep(60); os._exit(5)", "ended with 5 and no result"),
    ],
)
def test_a_runtime_that_takes_its_process_down_has_failed(
    package: Path, runtime: Callable[[str], None], code: str, says: str
) -> None:
    runtime(code)
    began = time.monotonic()
    with pytest.raises(SelfTestError, match=says):
        check(package)
    assert time.monotonic() - began < 20


def test_what_a_runtime_prints_goes_nowhere(package: Path, runtime: Callable[[str], None]) -> None:
    runtime(
        "for _ in range(1024):\n    os.write(1, bytes(1 << 20)); os.write(2, bytes(1 << 20))\nos._exit(7)"
    )
    before = peak_bytes()
    with pytest.raises(SelfTestError, match="ended with 7 and no result"):
        check(package)
    assert peak_bytes() - before < 16 * MEBIBYTE


def test_a_child_that_answers_without_end_is_ended(package: Path, runtime: Callable[[str], None]) -> None:
    """Native code may write to any descriptor, also to the one that leads to the agent."""
    runtime("while True:\n    [os.write(n, bytes(4096)) for n in range(3, 9) if pipe(n)]")
    path = Path(os.environ["PYTHONPATH"].partition(os.pathsep)[0]) / "onnxruntime.py"
    path.write_text(
        "def pipe(n):\n    try:\n        return 'pipe' in os.readlink(f'/proc/self/fd/{n}')\n"
        "    except OSError:\n        return False\n" + path.read_text()
    )
    before = peak_bytes()
    with pytest.raises(SelfTestError, match="answered without end"):
        check(package)
    assert peak_bytes() - before < 16 * MEBIBYTE


def peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


@pytest.mark.parametrize(
    "answer", ["5", "[]", '{"passed": "3"}', "hello", '{"error": "no"}', '{"passed": null}']
)
def test_an_answer_that_is_no_pass_is_none(
    package: Path, runtime: Callable[[str], None], answer: str
) -> None:
    runtime(
        "for n in range(3, 9):\n    try:\n        if 'pipe' in os.readlink(f'/proc/self/fd/{n}'):\n"
        f"            os.write(n, {answer.encode()!r})\n    except OSError:\n        pass\nos._exit(0)"
    )
    with pytest.raises(SelfTestError):
        check(package)


def test_a_child_that_cannot_be_started_is_told(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device_sdk.self_test.sys.executable", "/nonexistent")
    with pytest.raises(SelfTestError, match="could not be started"):
        check(package)


@pytest.fixture
def waiting(endless: Path) -> Iterator[tuple[threading.Event, threading.Thread, list[BaseException]]]:
    """A self-test that would take two minutes, in a thread."""
    ending, told = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            check(endless, ending=ending)
        except InterruptedUpdateError as error:
            told.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not self_tests_of(endless):
        time.sleep(0.01)
    yield ending, thread, told
    ending.set()
    thread.join()


def test_an_agent_that_ends_does_not_wait_for_a_self_test(
    endless: Path, waiting: tuple[threading.Event, threading.Thread, list[BaseException]]
) -> None:
    ending, thread, told = waiting
    began = time.monotonic()
    ending.set()
    thread.join()
    assert time.monotonic() - began < 2
    assert told  # and not a verdict on the release
    assert not self_tests_of(endless)


def test_a_child_ended_from_outside_says_nothing_about_the_release(
    package: Path, runtime: Callable[[str], None]
) -> None:
    """A service manager ends the processes of a service all at once, the child perhaps before the agent."""
    runtime("signal.signal(signal.SIGTERM, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGTERM)")
    with pytest.raises(InterruptedUpdateError):
        check(package)


@pytest.mark.parametrize("code", ["ctypes.PyDLL(None).sleep(300)", "time.sleep(300)"])
def test_a_child_dies_with_an_agent_that_is_killed(
    package: Path, runtime: Callable[[str], None], code: str
) -> None:
    """Also one whose model holds Python's lock, so that no line of Python runs in it any more."""
    runtime(code)
    agent_code = (
        "from pathlib import Path\nfrom device_sdk.self_test import *\n"
        f"self_test(Path({str(package)!r}), {VARIANT!r}, threads=1, limits=SelfTestLimits())"
    )
    agent = subprocess.Popen([sys.executable, "-c", agent_code])
    while not (children := self_tests_of(package)):
        time.sleep(0.01)
    time.sleep(0.3)  # into the runtime, mostly; before it, the child must die as well
    agent.kill()
    agent.wait()
    assert ended(children, within_s=5)


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
    own_server.publish(TinyRelease(version="1.2.0", counter=3, never_ends=True))
    complete(own_server, "1.2.0")
    monkeypatch.setattr("device_sdk.updater.limits_for", lambda *_: SelfTestLimits(seconds=2))
    assert "did not end within" in device.poll()
    assert (device.live, device.update) == ("1.0.0", "failed")


def test_an_agent_stopped_in_a_self_test_makes_it_again(own_server: TestServer, behind: Behind) -> None:
    """Nothing is refused, nothing waits: the next agent goes on with it at once."""
    device = behind(own_server)
    settle(device)
    complete(own_server, "1.1.0")
    with device.agent() as agent:
        thread = threading.Thread(target=agent.poll)
        thread.start()
        while not self_tests_of(device.store):
            assert thread.is_alive()
            time.sleep(0.002)
        agent.stop()
        thread.join(5)
        assert not thread.is_alive()
    assert (device.live, device.update) == ("1.0.0", "staged")
    assert device.state.refusals == ()
    device.poll()
    assert (device.live, device.update) == ("1.1.0", "live_on_trial")


def test_the_child_takes_no_signal_meant_for_the_service(
    endless: Path, waiting: tuple[threading.Event, threading.Thread, list[BaseException]]
) -> None:
    ending, thread, told = waiting
    children = self_tests_of(endless)
    while not ignores(children[0], signal.SIGTERM):
        time.sleep(0.01)
    os.kill(children[0], signal.SIGTERM)
    os.kill(children[0], signal.SIGINT)
    assert not ended(children, within_s=0.3)
    ending.set()
    thread.join()
    assert told
    assert ended(children, within_s=5)


def ignores(process: int, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    mask = int(next(line for line in lines if line.startswith("SigIgn")).split()[1], 16)
    return bool(mask & 1 << (number - 1))
