"""A server per test module behind a proxy that misbehaves on request, and devices that poll through it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.devices import Device, complete, make_device, settle
from tests.support.fleet import TestServer, start_server
from tests.support.network import Proxy, run_proxy
from tests.support.scene import Scene
from tests.support.tiny import TinyRelease

_NUMBERS = itertools.count()

OLD = TinyRelease()
NEW = TinyRelease(version="1.1.0", counter=2, seed=1, padding_bytes=400_000)


def open_server(folder: Path, *releases: TinyRelease) -> TestServer:
    """A server with releases published and the first one's rollout ended."""
    server = start_server(folder, publishers=("vision", "audio"))
    for release in releases:
        server.publish(release)
    if releases:
        complete(server, releases[0].version)
    return server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    """1.0.0 is what everyone is on; 1.1.0 is published. Tests that move it on take `own_server`."""
    server = open_server(tmp_path_factory.mktemp("server"), OLD, NEW)
    yield server
    server.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[TestServer]:
    """The same for one test alone."""
    server = open_server(tmp_path / "server", OLD, NEW)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def moved_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    """Everyone is on 1.1.0 now; `old_device` is still on 1.0.0."""
    server = open_server(tmp_path_factory.mktemp("moved"), OLD, NEW)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def old_device(moved_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Device:
    """A healthy device on 1.0.0 of a server that has moved on to 1.1.0: copy it, then update it."""
    device = make_device(moved_server, tmp_path_factory.mktemp("old") / "device")
    settle(device)
    assert (device.live, device.update) == ("1.0.0", "healthy")
    complete(moved_server, "1.1.0")
    device.clock.now = moved_server.clock()
    return device


@pytest.fixture
def proxy(server: TestServer) -> Iterator[Proxy]:
    """In front of `server`."""
    with run_proxy(server.url) as proxy:
        yield proxy


@pytest.fixture
def behind(tmp_path: Path) -> Callable[..., Device]:
    """Makes a new device behind a proxy (or any URL)."""

    def make(server: TestServer, url: str = "", **extra: str) -> Device:
        number = next(_NUMBERS)
        return make_device(server, tmp_path / f"device-{number}", f"device-{number}", url=url, **extra)

    return make


@pytest.fixture
def no_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the child process where a test is about something else: it is most of an update's time."""
    monkeypatch.setattr("device_sdk.updater.self_test", lambda *_, **__: 3)


@pytest.fixture
def scene(moved_server: TestServer, old_device: Device, tmp_path: Path) -> Iterator[Scene]:
    """The server has moved on to 1.1.0: without the attack the device's next poll would follow."""
    with run_proxy(moved_server.url) as proxy:
        device = old_device.copy(tmp_path / "device")
        text = device.config_path.read_text()
        device.config_path.write_text(text.replace(f'"{moved_server.url}"', f'"{proxy.url}"'))
        yield Scene(moved_server, proxy, device, tmp_path)


@pytest.fixture
def own_scene(own_server: TestServer, tmp_path: Path) -> Iterator[Scene]:
    with run_proxy(own_server.url) as proxy:
        device = make_device(own_server, tmp_path / "device", url=proxy.url)
        settle(device)
        yield Scene(own_server, proxy, device, tmp_path)
