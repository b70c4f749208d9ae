"""`ferry-device` as real processes: run, check, status, predict, and two agents on one store."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_sdk.agent import Agent
from device_sdk.errors import StoreError, StoreLockedError
from device_sdk.ferry import Ferry
from device_sdk.slots import Store
from tests.support.devices import Device, make_device, settle
from tests.support.fleet import TestServer
from tests.support.network import Proxy, run_proxy, trickle
from tests.support.tiny import image


def run(device: Device, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "device_sdk", *arguments, "--config", str(device.config_path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


def one_line(text: str) -> str:
    assert text.startswith("ferry-device: ")
    assert text.count("\n") == 1
    assert "Traceback" not in text
    return text


@pytest.fixture(scope="module")
def settled(server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Device:
    device = make_device(server, tmp_path_factory.mktemp("commands") / "device", "device-commands")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("device_sdk.updater.self_test", lambda *_, **__: 3)
        settle(device)
    return device


@pytest.fixture
def device(settled: Device, tmp_path: Path) -> Device:
    return settled.copy(tmp_path / "device")


def test_check_installs_reports_and_ends_with_0(server: TestServer, tmp_path: Path) -> None:
    device = make_device(server, tmp_path / "new", "device-check")
    done = run(device, "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1.0.0 is live on trial" in done.stdout
    assert device.live == "1.0.0"
    known = server.client().get("devices", "device-check")
    assert known["history"]
    again = run(device, "check", "--json")
    assert json.loads(again.stdout)["ok"] is True


def test_check_ends_with_1_where_the_server_is_away(device: Device, server: TestServer) -> None:
    text = device.config_path.read_text()
    device.config_path.write_text(text.replace(server.url, "http://127.0.0.1:1"))
    before = device.footprint()
    done = run(device, "check", "--json")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["ok"] is False
    assert "127.0.0.1:1" in answer["standing"]
    assert answer["report"]
    assert device.footprint() == before


@pytest.mark.parametrize("command", ["check", "status", "run", "predict"])
def test_a_bad_configuration_is_one_line_and_1(device: Device, command: str) -> None:
    device.config_path.write_text("nonsense = 1\n")
    more = ["--input", "x.npy"] if command == "predict" else []
    done = run(device, command, *more)
    assert done.returncode == 1
    assert "nonsense is not a setting" in one_line(done.stderr)


def test_a_missing_trust_root_is_one_line_and_1(device: Device, server: TestServer) -> None:
    text = device.config_path.read_text()
    device.config_path.write_text(text.replace(str(server.trust_root), "nowhere.json"))
    done = run(device, "check")
    assert done.returncode == 1
    assert "ferry keys init" in one_line(done.stderr)


def test_a_store_that_cannot_be_is_one_line_and_1(device: Device) -> None:
    text = device.config_path.read_text()
    device.config_path.write_text(text.replace('store = "store"', 'store = "device.toml/store"'))
    done = run(device, "status")
    assert done.returncode == 1
    assert "is in the way" in one_line(done.stderr)


@pytest.mark.parametrize("arguments", [[], ["fly"], ["predict"], ["status", "--colour"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "device_sdk", *arguments]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2


def test_status_says_what_stands(device: Device) -> None:
    done = run(device, "status")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1.0.0 is live (onnx-fp32)" in done.stdout
    assert "update to 1.0.0: healthy (12 inferences, 0 errors)" in done.stdout
    status = json.loads(run(device, "status", "--json").stdout)
    assert status["models"]["vision/digits"]["live"]["version"] == "1.0.0"
    assert status["polls"]["total"] == 1
    assert status["last_error"] is None


def test_status_of_a_damaged_record_says_so(device: Device) -> None:
    device.slots.state_path.write_bytes(b"{")
    done = run(device, "status")
    assert done.returncode == 0
    assert "state.json is damaged" in done.stdout


def test_predict_answers_npy_and_json_alike(device: Device, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", image(3))
    (tmp_path / "x.json").write_text(json.dumps({"image": image(3).tolist()}))
    answers = []
    for name in ("x.npy", "x.json"):
        done = run(device, "predict", "--json", "--deadline-ms", "20000", "--input", str(tmp_path / name))
        assert (done.returncode, done.stderr) == (0, "")
        answers.append(json.loads(done.stdout))
    assert answers[0]["outputs"] == answers[1]["outputs"]
    assert (answers[0]["answered_by"], answers[0]["release"]) == ("live", "1.0.0")
    words = run(device, "predict", "--input", str(tmp_path / "x.npy"))
    assert "answered_by: live" in words.stdout


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.npy", b"nothing of the kind", "cannot be read as an input"),
        ("x.json", b"[1]", "cannot be read as an input"),
        ("x.json", b'{"image": [[1],[1,2]]}', "does not fit the model's inputs"),
        ("x.json", b'{"image": [[300]]}', "does not fit the model's inputs"),
        ("x.json", b'{"image": [[3]]}', "expected UINT8 of shape"),
        ("x.json", b'{"picture": [[3]]}', "expected inputs ['image'], got ['picture']"),
        ("missing.npy", None, "No such file"),
    ],
)
def test_an_input_that_does_not_fit_is_one_line_and_1(
    device: Device, tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = run(device, "predict", "--input", str(tmp_path / name))
    assert done.returncode == 1
    assert says in one_line(done.stderr)


def test_a_pickled_input_is_not_loaded(device: Device, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    done = run(device, "predict", "--input", str(tmp_path / "x.npy"))
    assert done.returncode == 1
    assert "allow_pickle" in one_line(done.stderr)


def start(device: Device, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "device_sdk", "run", "--config", str(device.config_path), *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "polls" in process.stderr.readline()
    return process


@pytest.fixture
def running(device: Device, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    np.save(tmp_path / "feed.npy", np.concatenate([image(seed) for seed in range(4)]))
    process = start(device, "--feed", str(tmp_path / "feed.npy"), "--feed-rate", "50")
    yield process
    process.kill()
    process.wait()


def until(what: Any, seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_ends_in_good_order_on_a_signal(
    device: Device, running: subprocess.Popen[str], number: signal.Signals
) -> None:
    polls = device.activity()["polls"]["total"]
    until(lambda: device.activity()["polls"]["total"] > polls)
    running.send_signal(number)
    assert running.wait(20) == 0
    with device.agent():  # the lock is free
        assert device.live == "1.0.0"
    # What was counted is on disk, not lost with the process.
    assert [path for path in (device.store / "reports").rglob("*.json") if b'"window"' in path.read_bytes()]


def test_a_second_agent_is_refused_and_an_app_attaches(
    device: Device, running: subprocess.Popen[str]
) -> None:
    assert running.poll() is None
    with pytest.raises(StoreLockedError, match="another process runs the agent"):
        Agent(device.config)
    for command in ("run", "check"):
        done = run(device, command)
        assert done.returncode == 1
        assert "another process runs the agent" in one_line(done.stderr)
    with Ferry.from_config(device.config_path) as ferry:
        assert not ferry.runs_agent
        assert ferry.status()["runs_agent"] is False
        assert ferry.model("vision/digits").predict({"image": image()}).answered_by == "live"
    assert run(device, "status").returncode == 0


def test_the_lock_dies_with_its_process(device: Device, running: subprocess.Popen[str]) -> None:
    running.kill()
    running.wait()
    with Ferry.from_config(device.config_path) as ferry:
        assert ferry.runs_agent


def test_two_agents_in_one_process_cannot_share_a_store_either(device: Device) -> None:
    with device.agent(), pytest.raises(StoreLockedError):
        Agent(device.config)


def test_an_agent_that_cannot_begin_gives_the_lock_back(device: Device) -> None:
    def broken(*_: object) -> None:
        raise StoreError("no")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("device_sdk.agent.Reporter", broken)
        with pytest.raises(StoreError):
            Agent(device.config)
    with device.agent() as agent:
        assert agent is not None


def test_an_app_with_an_agent_follows_its_updates(server: TestServer, tmp_path: Path) -> None:
    device = make_device(server, tmp_path / "app", "device-app")
    with Ferry.from_config(device.config_path) as ferry:
        assert ferry.runs_agent
        model = ferry.model("vision/digits")
        until(lambda: model.inputs)
        assert model.predict({"image": image()}).release == "1.0.0"
        for seed in range(12):
            model.predict({"image": image(seed)})
        until(lambda: device.update == "healthy")


def test_closing_does_not_wait_for_a_download(
    old_device: Device, tmp_path: Path, moved_server: TestServer
) -> None:
    with run_proxy(moved_server.url) as proxy:
        slow(proxy)
        twin = old_device.copy(tmp_path / "twin")
        text = twin.config_path.read_text()
        twin.config_path.write_text(
            text.replace(f'"{moved_server.url}"', f'"{proxy.url}"') + "[agent]\npoll_interval_s = 0.1\n"
        )
        with Ferry.from_config(twin.config_path):
            until(lambda: list((Store(twin.store).blobs).glob("*.part")))
            began = time.monotonic()
        assert time.monotonic() - began < 5
    assert twin.live == "1.0.0"


def slow(proxy: Proxy) -> None:
    proxy.misbehave("/blobs/", trickle(0.01))


def test_importing_the_sdk_imports_no_runtime_and_no_numpy() -> None:
    code = (
        "import sys, device_sdk, device_sdk.agent, device_sdk.ferry, device_sdk.__main__\n"
        "heavy = {'numpy', 'tensorflow', 'onnxruntime', 'fastapi', 'pydantic', 'sqlalchemy'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_agent_alone_never_imports_numpy(server: TestServer, tmp_path: Path) -> None:
    device = make_device(server, tmp_path / "light", "device-light")
    code = (
        "import sys\nfrom pathlib import Path\nfrom device_sdk.agent import Agent\n"
        "from device_sdk.config import read_config\n"
        f"with Agent(read_config(Path({str(device.config_path)!r}))) as agent:\n    agent.step()\n"
        "print('numpy' in sys.modules, 'onnxruntime' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
    assert device.live == "1.0.0"
