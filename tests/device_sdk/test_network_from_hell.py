"""Everything a network does to a download, in the middle of it: a defined outcome, and no byte paid twice.

The blob is long enough for one percent of it to be more than a piece. What counts is what the device took
from its sockets, not what a proxy wrote into them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from device_sdk import http_pool
from device_sdk.errors import DigestMismatchError, MissingFileError, NetworkError
from device_sdk.http_pool import Limits
from tests.device_sdk.conftest import OLD, open_server
from tests.support.devices import Device, complete, make_device, settle
from tests.support.fleet import TestServer
from tests.support.network import (
    Fault,
    Proxy,
    answer,
    captive_portal,
    corrupt,
    drop_after,
    hang_up,
    ignore_range,
    redirect,
    run_proxy,
    trickle,
    wrong_length,
)
from tests.support.tiny import TinyRelease

pytestmark = pytest.mark.usefixtures("no_self_test")

LENGTH = 16 * 1024 * 1024
HALF = LENGTH // 2
BLOBS = "^/blobs/"
OTHER_BYTES = 20_000
"""Model, golden vectors, and the first bytes of answers that were refused."""


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestServer, Proxy, Device]]:
    """A server on 1.1.0, a proxy before it, and a device on 1.0.0."""
    new = TinyRelease(version="1.1.0", counter=2, seed=1, padding_bytes=LENGTH)
    server = open_server(tmp_path_factory.mktemp("hell"), OLD, new)
    with run_proxy(server.url) as proxy:
        device = make_device(server, tmp_path_factory.mktemp("old") / "device", url=proxy.url)
        settle(device)
        complete(server, "1.1.0")
        device.clock.now = server.clock()
        yield server, proxy, device
    server.stop()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of bodies the device took from sockets, one entry for each read."""
    counts: list[int] = []
    genuine = http_pool._Reader.readinto

    def counted(self: Any, buffer: Any) -> int | None:
        count = genuine(self, buffer)
        counts.append(count or 0)
        return count

    monkeypatch.setattr(http_pool._Reader, "readinto", counted)
    return counts


HELL: dict[str, tuple[Fault, type[Exception], str]] = {
    "drops": (drop_after(0), NetworkError, "IncompleteRead"),
    "truncates": (drop_after(1_000_000), NetworkError, "IncompleteRead"),
    "corrupts": (corrupt(HALF + 1_000_000), DigestMismatchError, "not the signed ones behind byte"),
    "hangs up": (hang_up, NetworkError, "closed connection"),
    "stalls": (trickle(30), NetworkError, "timed out"),
    "trickles": (trickle(0.02), NetworkError, "slower than 256 bytes a second"),
    "captive portal": (captive_portal, NetworkError, "captive portal"),
    "portal in disguise": (
        answer(200, b"please pay", Content_Type="text/plain"),
        NetworkError,
        "announced 10",
    ),
    "busy": (answer(503, b"later", Retry_After="600"), NetworkError, "HTTP 503"),
    "broken": (answer(500), NetworkError, "HTTP 500"),
    "forbidden": (answer(403), MissingFileError, "HTTP 403"),
    "gone": (answer(404), MissingFileError, "HTTP 404"),
    "announces too much": (wrong_length(+1000), NetworkError, "IncompleteRead"),
    "announces too little": (wrong_length(-1000), NetworkError, "the transfer ended after"),
    "ignores ranges": (ignore_range, NetworkError, "cannot go on at byte"),
    "refuses ranges": (answer(416), NetworkError, "refused to go on at byte"),
    "sends another range": (
        answer(206, b"x" * 10, Content_Range=f"bytes 0-9/{LENGTH}"),
        NetworkError,
        "other bytes than those from",
    ),
    "redirects to another host": (
        redirect("http://evil.example/blob"),
        NetworkError,
        "redirected to http://evil",
    ),
}


@pytest.mark.parametrize("name", HELL)
def test_a_download_outlives_the_network(
    link: tuple[TestServer, Proxy, Device],
    taken: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """Half of the blob is here when it begins, and stays; healed, the device fetches the other half."""
    _, proxy, old = link
    fault, kind, says = HELL[name]
    patient = Limits(silence_s=0.5, patience_s=0.5, headers_s=2)
    monkeypatch.setattr("device_sdk.transport.Limits", lambda **_: patient)
    device = old.copy(tmp_path / "twin")
    proxy.heal()
    proxy.misbehave(BLOBS, drop_after(HALF))
    device.poll()
    assert part(device) >= HALF

    proxy.heal()
    caught = poll_with(device, proxy, fault)
    assert type(caught) is kind, caught
    assert says in str(caught)
    assert part(device) >= HALF
    answered = device.predict()
    assert (answered.release, answered.answered_by) == ("1.0.0", "live")

    proxy.heal()
    device.clock.advance(hours=7)
    device.poll()
    assert device.live == "1.1.0"
    assert device.predict().release == "1.1.0"
    assert sum(taken) <= LENGTH * 1.01 + OTHER_BYTES


def poll_with(device: Device, proxy: Proxy, fault: Fault) -> Exception | None:
    """Poll under a fault; returns what went wrong, and checks how long the server is left alone."""
    caught: list[Exception] = []
    proxy.misbehave(BLOBS, fault)
    with device.agent() as agent:
        genuine = agent._note_failure

        def note(error: Exception) -> None:
            caught.append(error)
            genuine(error)

        agent._note_failure = note  # type: ignore[method-assign]
        agent.poll()
        if getattr(caught[0], "retry_after_s", None):
            assert agent._next_poll - device.ticks.now_s >= 600
    return caught[0] if caught else None


def part(device: Device) -> int:
    return max((path.stat().st_size for path in (device.store / "blobs").glob("*.part")), default=0)


def test_a_link_that_damages_now_and_then_brings_the_file_in_the_end(
    link: tuple[TestServer, Proxy, Device], taken: list[int], tmp_path: Path
) -> None:
    """Ten damaged bytes, ten times a piece and a little: not ten times the file."""
    _, proxy, old = link
    device = old.copy(tmp_path / "twin")
    proxy.heal()
    for number in range(10):
        proxy.misbehave(BLOBS, corrupt(number * 1_500_000 + 700_000), times=2)
    for _ in range(25):
        device.clock.advance(hours=7)
        device.poll()
        if device.live == "1.1.0":
            break
    assert device.live == "1.1.0"
    assert sum(taken) <= LENGTH * 1.25
