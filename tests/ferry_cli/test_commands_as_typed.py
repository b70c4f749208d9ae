"""The commands people type, as their `--help` shows them, against a real server."""

from __future__ import annotations

import json
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from ferry_cli.__main__ import COMMANDS, main
from tests.support.fleet import TestServer, start_server
from tests.support.simulated import enrol_fleet
from tests.support.state import fingerprint
from tests.support.tiny import TinyRelease, write_package


@dataclass(slots=True, kw_only=True)
class Terminal:
    """Runs `ferry …` in this process, as somebody logged in as a fleet manager."""

    server: TestServer
    config: Path
    capture: pytest.CaptureFixture[str]

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, output, errors."""
        self.capture.readouterr()
        code = main(arguments)
        out, errors = self.capture.readouterr()
        return code, out, errors

    def __call__(self, *arguments: str) -> str:
        """Output of a command that must succeed."""
        code, out, errors = self.run(*arguments)
        assert (code, errors) == (0, ""), errors
        return out

    def json(self, *arguments: str) -> Any:
        """Its output with `--json`."""
        return json.loads(self(*arguments, "--json"))

    def refused(self, *arguments: str) -> str:
        """The one line of a command that must be refused."""
        code, out, errors = self.run(*arguments)
        assert (code, out) == (1, ""), (out, errors)
        assert re.fullmatch(r"ferry: [^\n]+\n", errors), errors
        return errors


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TestServer]:
    running = start_server(tmp_path / "server")
    yield running
    running.stop()


@pytest.fixture
def ferry(
    server: TestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    config = tmp_path / "home" / "credentials.json"
    monkeypatch.setenv("FERRY_CONFIG", str(config))
    for name in ("FERRY_SERVER", "FERRY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    terminal = Terminal(server=server, config=config, capture=capsys)
    terminal("login", server.url, "--token", server.tokens["fleet_manager"])
    return terminal


@pytest.fixture
def released(ferry: Terminal) -> Terminal:
    """1.0.0 and 1.1.0 are out, three devices know it."""
    ferry.server.publish(TinyRelease())
    ferry.server.publish(TinyRelease(version="1.1.0", counter=2, seed=1))
    enrol_fleet(ferry.server, ["camera-7", "camera-8"], region="eu", ram_bytes=2 * 10**9)
    enrol_fleet(ferry.server, ["kiosk-1"], region="us")
    return ferry


# --- login -------------------------------------------------------------------------------------------------


def test_login_remembers_for_its_owner_alone(ferry: Terminal) -> None:
    assert stat.S_IMODE(ferry.config.stat().st_mode) == 0o600
    assert stat.S_IMODE(ferry.config.parent.stat().st_mode) == 0o700
    out = ferry("login", ferry.server.url + "/", "--token", ferry.server.tokens["viewer"])
    assert re.fullmatch(rf"logged in to {ferry.server.url} as viewer-\d+ \(viewer\)\n", out)
    assert ferry.server.tokens["viewer"] in ferry.config.read_text()
    assert "takes a fleet_manager token" in ferry.refused("cohort", "set", "eu", '{"region": "eu"}')


def test_login_reads_the_token_from_a_pipe(ferry: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO(ferry.server.tokens["viewer"] + "\n"))
    assert ferry.json("login", ferry.server.url)["role"] == "viewer"


def test_a_wrong_token_is_not_remembered(ferry: Terminal) -> None:
    before = ferry.config.read_bytes()
    assert "not issued here" in ferry.refused("login", ferry.server.url, "--token", "wrong")
    assert ferry.config.read_bytes() == before


def test_without_a_login_every_command_says_what_to_do(
    ferry: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    ferry.config.unlink()
    assert "ferry login" in ferry.refused("model", "list")
    monkeypatch.setenv("FERRY_SERVER", ferry.server.url)
    assert "FERRY_TOKEN" in ferry.refused("model", "list")
    monkeypatch.setenv("FERRY_TOKEN", ferry.server.tokens["viewer"])
    assert "no models yet" in ferry("model", "list")


@pytest.mark.parametrize(
    "command",
    [
        ("model", "list"),
        ("release", "list", "vision/digits"),
        ("cohort", "list"),
        ("device", "show", "camera-7"),
        ("rollout", "status"),
        ("rollout", "watch", "ro-1"),
    ],
)
def test_a_server_that_is_not_there_ends_in_one_line(command: tuple[str, ...], ferry: Terminal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    assert f"{url} does not answer" in ferry.refused(*command, "--server", url, "--token", "t")


# --- releases ----------------------------------------------------------------------------------------------


def test_publish_as_typed(ferry: Terminal, tmp_path: Path) -> None:
    write_package(tmp_path / "build", TinyRelease())
    key = str(ferry.server.root / "keys" / "publishers" / "vision.pem")
    ferry("login", ferry.server.url, "--token", ferry.server.tokens["publisher:vision"])
    out = ferry("publish", str(tmp_path / "build"), "--key", key)
    assert out.startswith(f"published vision/digits 1.0.0 to {ferry.server.url}: ")
    again = ferry.json("publish", str(tmp_path / "build"), "--key", key)
    assert (again["sent_bytes"], again["version"]) == (0, "1.0.0")
    before = fingerprint(ferry.server.data)
    ferry.refused("publish", str(tmp_path / "build"), "--key", str(tmp_path / "none.pem"))
    ferry.refused("publish", str(tmp_path), "--key", key)
    assert fingerprint(ferry.server.data) == before


def test_models_and_releases_as_typed(released: Terminal) -> None:
    assert "vision/digits" in released("model", "list")
    assert released.json("model", "list") == [{"model": "vision/digits", "latest": "1.1.0", "releases": 2}]
    listed = released("release", "list", "vision/digits")
    assert listed.index("1.1.0") < listed.index("1.0.0")
    assert [item["version"] for item in released.json("release", "list", "vision/digits")] == [
        "1.1.0",
        "1.0.0",
    ]
    shown = released("release", "show", "vision/digits", "1.1.0")
    assert "onnx-fp32" in shown
    assert "passed" in shown
    document = released.json("release", "show", "vision/digits", "1.1.0")
    assert document["manifest"]["version"] == "1.1.0"
    assert "vision/digits 1.1.0" in released("release", "withdraw", "vision/digits", "1.1.0")
    assert released.json("release", "withdraw", "vision/digits", "1.1.0")["withdrawn"] is True
    assert "not published" in released.refused("release", "show", "vision/digits", "9.9.9")
    assert "ferry model list" in released.refused("release", "list", "vision/none")
    assert "publisher/model" in released.refused("release", "list", "digits")


# --- cohorts and devices -----------------------------------------------------------------------------------


def test_cohorts_as_typed(released: Terminal) -> None:
    rule = '{"region": "eu", "ram_bytes": {"$gte": 1000000000}}'
    assert "europe" in released("cohort", "set", "europe", rule)
    assert "2 of 3 known devices" in released("cohort", "preview", "europe")
    assert "1 of 3" in released("cohort", "preview", '{"region": "us"}')
    assert released.json("cohort", "preview", "europe")["devices"] == ["camera-7", "camera-8"]
    assert "everyone" in released("cohort", "list")
    assert [item["name"] for item in released.json("cohort", "list")] == ["everyone", "europe"]
    before = fingerprint(released.server.data)
    for bad in ("{", "[]", '{"region": {"$near": 1}}'):
        released.refused("cohort", "set", "europe", bad)
    released.refused("cohort", "set", "Eu rope", rule)
    assert "always means every device" in released.refused("cohort", "set", "everyone", rule)
    assert fingerprint(released.server.data) == before


def test_devices_as_typed(released: Terminal) -> None:
    released("cohort", "set", "europe", '{"region": "eu"}')
    listed = released("device", "list", "--cohort", "europe")
    assert "camera-7" in listed
    assert "kiosk-1" not in listed
    assert [item["id"] for item in released.json("device", "list", "--limit", "2")] == [
        "camera-7",
        "camera-8",
    ]
    assert released.json("device", "show", "camera-7")["region"] == "eu"
    assert "camera-7" in released("device", "show", "camera-7")
    assert "beta, indoor" in released("device", "tag", "camera-7", "beta", "indoor")
    assert released.json("device", "tag", "camera-7")["tags"] == []
    assert "camera-7" in released("device", "forget", "camera-7")
    assert released.json("device", "forget", "camera-8") == {"forgotten": "camera-8"}
    assert "ferry device list" in released.refused("device", "show", "camera-7")
    released.refused("device", "show", "../etc")


# --- rollouts ----------------------------------------------------------------------------------------------


def test_rollouts_as_typed(released: Terminal) -> None:
    created = released.json("rollout", "create", "vision/digits", "1.1.0", "--stages", "5%:600,25%:3600,100%")
    assert [stage["percent_bp"] for stage in created["stages"]] == [500, 2500, 10_000]
    assert [stage["soak_s"] for stage in created["stages"]] == [600, 3600, 0]
    rollout = created["id"]
    assert "running" in released("rollout", "start", rollout)
    assert "50%" in released("rollout", "set-percent", rollout, "50")
    assert released.json("rollout", "pause", rollout)["state"] == "paused"
    assert "running" in released("rollout", "resume", rollout)
    assert "halted" in released("rollout", "halt", rollout)
    assert "rolling_back" in released("rollout", "rollback", rollout)
    assert rollout in released("rollout", "status")
    assert released.json("rollout", "status", rollout)["id"] == rollout
    assert [item["id"] for item in released.json("rollout", "status", "--model", "vision/digits")] == [
        rollout
    ]
    draft = released.json("rollout", "create", "vision/digits", "1.0.0", "--requires-approval")["id"]
    assert "somebody else" in released.refused("rollout", "approve", draft)
    assert "aborted" in released("rollout", "abort", draft)


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "vision/digits", "9.9.9"),
        ("create", "vision/digits", "one"),
        ("create", "digits", "1.0.0"),
        ("create", "vision/digits", "1.0.0", "--stages", "5%,x"),
        ("create", "vision/digits", "1.0.0", "--stages", "50%"),
        ("create", "vision/digits", "1.0.0", "--stages", "101%"),
        ("create", "vision/digits", "1.0.0", "--max-error-rate", "5"),
        ("create", "vision/digits", "1.0.0", "--max-error-rate", "nan"),
        ("create", "vision/digits", "1.0.0", "--cohort", "nobody"),
        ("create", "vision/digits", "1.0.0", "--strategy", "shadow"),
        ("start", "ro-none"),
        ("set-percent", "ro-none", "0"),
        ("set-percent", "ro-none", "many"),
        ("watch", "ro-none"),
    ],
)
def test_a_rollout_that_cannot_be_is_refused_in_one_line(
    arguments: tuple[str, ...], released: Terminal
) -> None:
    before = fingerprint(released.server.data)
    released.refused("rollout", *arguments)
    assert fingerprint(released.server.data) == before


def watch(
    ferry: Terminal, monkeypatch: pytest.MonkeyPatch, during: Callable[[], object], *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setattr("ferry_cli.rollouts.time.sleep", lambda _: during())
    return ferry.run("rollout", "watch", *arguments)


def test_watch_ends_well_with_a_completed_rollout(
    released: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = released.server.roll_out("1.0.0", stages=[{"percent_bp": 10_000, "min_healthy": 0}])
    code, out, errors = watch(released, monkeypatch, released.server.tick, rollout)
    assert (code, errors) == (0, "")
    assert out.splitlines()[-1].startswith("completed")


def test_watch_ends_badly_with_a_rolled_back_rollout(
    released: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = released.server.roll_out("1.0.0")
    released("rollout", "rollback", rollout)

    def pass_time() -> None:
        released.server.clock.advance(seconds=60)
        released.server.tick()

    code, out, _ = watch(released, monkeypatch, pass_time, rollout, "--json")
    assert code == 1
    assert json.loads(out)["state"] == "rolled_back"


def test_watch_gives_up_in_time(released: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = released.server.roll_out("1.0.0")
    code, _, errors = watch(released, monkeypatch, lambda: None, rollout, "--timeout", "0")
    assert code == 1
    assert "the rollout is running" in errors


# --- the operator's ----------------------------------------------------------------------------------------


def test_tokens_as_typed(ferry: Terminal) -> None:
    data = str(ferry.server.data)
    alice = ferry("token", "create", "alice", "--role", "fleet_manager", "--data", data).strip()
    assert ferry.json("login", ferry.server.url, "--token", alice)["name"] == "alice"
    ci = ferry.json("token", "create", "ci", "--role", "publisher", "--publisher", "vision", "--data", data)
    assert ci["role"] == "publisher"
    ferry("token", "create", "factory", "--role", "enrolment", "--data", data)
    listed = ferry("token", "list", "--data", data)
    assert {"alice", "ci", "factory"} <= set(listed.split())
    assert alice not in listed
    assert "choose another name" in ferry.refused(
        "token", "create", "alice", "--role", "viewer", "--data", data
    )
    assert "revoked alice" in ferry("token", "revoke", "alice", "--data", data)
    assert "revoked" in ferry.refused("model", "list")
    assert "ferry token list" in ferry.refused("token", "revoke", "alice", "--data", data)
    ferry.refused("token", "create", "x", "--role", "publisher", "--data", data)
    ferry.refused("token", "list", "--data", str(ferry.config.parent))


# --- real processes ----------------------------------------------------------------------------------------


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ferry_cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_process_answers_and_refuses(released: Terminal) -> None:
    del released
    done = process("release", "list", "vision/digits", "--json")
    assert done.returncode == 0
    assert [item["version"] for item in json.loads(done.stdout)] == ["1.1.0", "1.0.0"]
    refused = process("release", "list", "vision/none")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.count("\n") == 1
    assert process("release").returncode == 2
    assert process("nonsense").returncode == 2


@pytest.mark.parametrize("name", [name for name in COMMANDS if COMMANDS[name].module.startswith("ferry_cli")])
def test_help_explains_every_fleet_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: ferry {name}" in capsys.readouterr().out
