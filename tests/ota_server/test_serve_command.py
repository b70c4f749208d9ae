"""`ferry serve` as a process of its own: how it begins, how it ends, and what a sudden death leaves."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from converter.publishing.errors import PublishError
from converter.publishing.publish import publish
from converter.publishing.signing import read_key
from ota_contract.credentials import Credentials
from ota_server.operations.access import create_token
from ota_server.operations.releases import list_models
from tests.support.calls import Caller
from tests.support.fleet import Clock
from tests.support.registry import MANAGER, Bench, close, make_bench, principal
from tests.support.tiny import TinyRelease

FERRY = [sys.executable, "-m", "ferry_cli"]
KILLS = 20


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    # These servers live by the real clock.
    return make_bench(tmp_path, clock=Clock(now=datetime.now(UTC)))


@contextmanager
def serving(data: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [*FERRY, "serve", "--data", str(data), "--port", "0", "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read()
            yield process, json.loads(line)["url"]
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order(number: signal.Signals, bench: Bench) -> None:
    with serving(bench.data) as (process, url):
        assert Caller(url)("GET", "/healthz").json == {"status": "ok"}
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == (0 if number is signal.SIGTERM else 130)
        assert "Traceback" not in errors
    assert not (bench.data / "ferry.db-wal").exists()  # the database was closed


def test_a_client_that_dawdles_does_not_hold_up_the_end(bench: Bench) -> None:
    with serving(bench.data) as (process, url):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as link:
            link.sendall(b"POST /api/v1/reports HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            process.terminate()
            process.communicate(timeout=120)
        assert process.returncode == 0


def refusal(*arguments: str) -> str:
    done = subprocess.run([*FERRY, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("ferry: ")
    return done.stderr


def test_a_port_in_use_ends_in_one_line(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "try --port 0" in refusal("serve", "--data", str(bench.data), "--port", port)


def test_a_port_that_is_none_ends_in_one_line(bench: Bench) -> None:
    assert "cannot listen" in refusal("serve", "--data", str(bench.data), "--port", "99999")


def test_a_folder_that_is_none_ends_in_one_line(tmp_path: Path) -> None:
    assert "ferry keys init" in refusal("serve", "--data", str(tmp_path / "none"), "--port", "0")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["keys.json", "repository/metadata/timestamp.json", "ferry.db"])
def test_a_damaged_folder_ends_in_one_line(damage: str, bench: Bench) -> None:
    close(bench.open())
    (bench.data / damage).write_bytes(b"damaged" * 100)
    refusal("serve", "--data", str(bench.data), "--port", "0")


@pytest.mark.parametrize("options", [("--tick", "0"), ("--poll-interval", "0"), ("--quota-mb", "-1")])
def test_numbers_that_make_no_sense_end_in_one_line(options: tuple[str, str], bench: Bench) -> None:
    assert "--tick above 0" in refusal("serve", "--data", str(bench.data), "--port", "0", *options)


def test_tokens_are_created_listed_and_revoked_while_it_runs(bench: Bench) -> None:
    def token(*arguments: str) -> str:
        command = [*FERRY, "token", *arguments, "--data", str(bench.data)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout.strip()

    with serving(bench.data) as (_, url):
        alice = token("create", "alice", "--role", "fleet_manager")
        assert Caller(url, alice)("GET", "whoami").json["name"] == "alice"
        listed = json.loads(token("list", "--json"))
        assert [(row["name"], row["role"]) for row in listed] == [("alice", "fleet_manager")]
        assert alice not in token("list")
        assert token("revoke", "alice") == "revoked alice"
        Caller(url, alice)("GET", "whoami").refused(401)


def test_killed_at_any_instant_it_comes_back_with_whole_releases_only(bench: Bench) -> None:
    """SIGKILL while releases are being published, again and again: nothing is torn, nothing half there."""
    services = bench.open()
    token = create_token(services.registry, principal("vision"), bench.clock)
    close(services)
    key = read_key(bench.root / "keys" / "publishers" / "vision.pem")
    instants = random.Random(7)  # noqa: S311 - which instants is of no consequence
    confirmed: list[str] = []
    folders = (bench.package(TinyRelease(version=f"1.0.{n}", counter=n + 1, seed=n)) for n in range(10_000))
    pending = next(folders)
    killed = 0
    while killed < KILLS or not confirmed:
        with serving(bench.data, "--tick", "0.05") as (process, url):
            timer = threading.Timer(instants.uniform(0.02, 0.5), os.kill, (process.pid, signal.SIGKILL))
            timer.start()
            try:
                while True:
                    publish(pending, Credentials(server=url, token=token), key, now=bench.clock())
                    confirmed.append(pending.name)
                    pending = next(folders)
            except PublishError:
                killed += 1
            timer.join()
        assert bench.view().releases(*confirmed) == confirmed  # what was answered is there
    services = bench.open()
    names = [*confirmed, pending.name]
    visible = bench.view("cold").releases(*names)
    assert visible in (confirmed, names)
    indexed = {str(model.name): model.releases for model in list_models(services, MANAGER)}
    assert indexed == ({"vision/digits": len(visible)} if visible else {})
    bench.publish(services, TinyRelease(version="9.0.0", counter=99_999))
    assert bench.view().releases("9.0.0") == ["9.0.0"]
