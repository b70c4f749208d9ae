"""Every way a link can fail has a defined outcome, and the device is up to date once it heals."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_sdk.agent import Agent
from device_sdk.errors import DigestMismatchError, MissingFileError, NetworkError
from device_sdk.transport import Limits, Transport
from tests.support.devices import Device, Ticks
from tests.support.fleet import TestServer
from tests.support.network import (
    Fault,
    Proxy,
    Reply,
    answer,
    captive_portal,
    corrupt,
    drop_after,
    endless,
    ignore_range,
    redirect,
    run_proxy,
    trickle,
    wrong_length,
)

pytestmark = pytest.mark.usefixtures("no_self_test")

BLOBS = r"^/blobs/"
PADDING_BYTES = 400_000


@pytest.fixture(scope="module")
def link(moved_server: TestServer) -> Iterator[Proxy]:
    with run_proxy(moved_server.url) as proxy:
        yield proxy


@pytest.fixture
def device(old_device: Device, link: Proxy, moved_server: TestServer, tmp_path: Path) -> Device:
    """On 1.0.0, told to go to 1.1.0, behind the link."""
    return behind_link(old_device, link, moved_server, tmp_path / "twin")


def behind_link(old: Device, link: Proxy, server: TestServer, folder: Path) -> Device:
    link.heal()
    link.forget()
    twin = old.copy(folder)
    text = twin.config_path.read_text()
    twin.config_path.write_text(text.replace(f'"{server.url}"', f'"{link.url}"'))
    return twin


def padding(device: Device) -> str:
    """The digest of the big blob, from the parts or blobs on disk."""
    found = [path for path in (device.store / "blobs").iterdir() if path.stat().st_size > 50_000]
    return found[0].name.removesuffix(".part")


def heals(device: Device, link: Proxy) -> None:
    link.heal()
    device.clock.advance(hours=7)  # past any wait of its own
    device.poll()
    assert (device.live, device.update) == ("1.1.0", "live_on_trial")
    assert device.predict().release == "1.1.0"
    assert not list((device.store / "blobs").glob("*.part"))


def untouched(device: Device) -> None:
    assert device.live == "1.0.0"
    answered = device.predict()
    assert (answered.release, answered.answered_by) == ("1.0.0", "live")


FAULTS: dict[str, tuple[Fault, str]] = {
    "truncated": (drop_after(150_000), "IncompleteRead"),
    "nothing at all": (drop_after(0), "IncompleteRead"),
    "announced too long": (wrong_length(+1000), "the server announced"),
    "announced too short": (wrong_length(-1000), "the server announced"),
    "endless": (endless, "bytes expected"),
    "404": (answer(404), "HTTP 404"),
    "403": (answer(403), "HTTP 403"),
    "500": (answer(500, b"oops"), "HTTP 500"),
    "416": (answer(416), "refused to go on at byte 0"),
    "no content": (answer(204), "HTTP 204"),
    "redirect": (redirect("http://127.0.0.1:1/evil"), "redirected to http://127.0.0.1:1/evil"),
    "captive portal": (captive_portal, "captive portal"),
    "garbled range": (
        answer(206, b"x" * 10, Content_Range="bytes 77-86/400000"),
        "other bytes than those from 0",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_failing_link_leaves_the_running_release_and_heals(device: Device, link: Proxy, name: str) -> None:
    fault, says = FAULTS[name]
    link.misbehave(BLOBS, fault)
    with device.agent() as agent:
        sentences, failed = agent.poll_once()
    assert failed
    assert says in sentences
    assert device.update in ("downloading", "failed")
    untouched(device)
    heals(device, link)


def test_a_redirect_is_never_followed_not_even_to_a_good_file(device: Device, link: Proxy) -> None:
    link.misbehave(BLOBS, redirect(f"{link.upstream}/blobs/"))
    device.poll()
    assert device.update == "downloading"
    untouched(device)


def test_a_captive_portal_in_front_of_everything_is_no_attack(device: Device, link: Proxy) -> None:
    """No alarm, no counted refusal: a lost link."""
    before = device.footprint()
    link.misbehave("", captive_portal)
    with device.agent() as agent:
        sentences = agent.poll()
    assert "captive portal" in sentences
    assert device.footprint() == before
    assert device.activity()["refused"] == {"blobs": 0, "metadata": 0}
    heals(device, link)


@pytest.mark.parametrize("status", [500, 502, 503])
def test_an_error_for_the_next_root_is_a_lost_link(device: Device, link: Proxy, status: int) -> None:
    before = device.footprint()
    link.misbehave(r"2\.root\.json", answer(status))
    assert f"HTTP {status}" in device.poll()
    assert device.footprint() == before
    heals(device, link)


def test_a_corrupted_byte_is_refused_deleted_and_waited_out(device: Device, link: Proxy) -> None:
    link.misbehave(BLOBS, corrupt(200))
    sentences = device.poll()
    assert "the bytes are not the signed ones" in sentences
    assert device.update == "failed"
    update = device.state.update
    assert update is not None
    assert update.retry_at is not None
    assert device.activity()["refused"]["blobs"] == 1
    assert not list((device.store / "blobs").glob("*.part"))
    untouched(device)
    link.forget()
    assert "next attempt at" in device.poll()  # no hammering
    assert link.sent(BLOBS) == 0
    heals(device, link)


def test_retries_of_a_bad_file_wait_longer_each_time(device: Device, link: Proxy) -> None:
    link.misbehave(BLOBS, corrupt(200))
    waits = []
    for _ in range(4):
        device.poll()
        update = device.state.update
        assert update is not None
        assert update.retry_at is not None
        waits.append((update.retry_at - update.at).total_seconds())
        device.clock.now = update.retry_at
    assert waits == [10, 20, 40, 80]


def test_a_wait_written_under_a_wrong_clock_is_not_kept(device: Device, link: Proxy) -> None:
    """The clock was a month ahead when the attempt failed: the next one must not wait a month."""
    link.misbehave(BLOBS, corrupt(200))
    device.poll()
    link.heal()
    text = device.slots.state_path.read_bytes()
    update = device.state.update
    assert update is not None
    assert update.retry_at is not None
    far = f"{update.retry_at.year + 1}-01-01T00:00:00Z".encode()
    written = update.retry_at.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    device.slots.state_path.write_bytes(text.replace(b'"retry_at":"' + written, b'"retry_at":"' + far))
    device.poll()
    assert device.live == "1.1.0"


def test_a_download_goes_on_where_it_ended(device: Device, link: Proxy) -> None:
    link.misbehave(BLOBS, drop_after(300_000))
    device.poll()
    part = device.store / "blobs" / f"{padding(device)}.part"
    assert part.stat().st_size == 300_000
    untouched(device)
    link.forget()
    heals(device, link)
    ranges = [seen.range for seen in link.seen if seen.sent_bytes > 50_000]
    assert ranges == ["bytes=300000-"]
    assert link.sent(BLOBS) <= PADDING_BYTES - 300_000 + 10_000


def test_a_link_that_drops_again_and_again_costs_no_byte_twice(device: Device, link: Proxy) -> None:
    link.misbehave(BLOBS, drop_after(30_000))
    for _ in range(30):
        device.poll()
        if device.live == "1.1.0":
            break
    assert device.live == "1.1.0"
    assert link.sent(BLOBS) < PADDING_BYTES * 1.01 + 10_000


def test_offered_and_downloading_are_reported_once_however_often_the_link_fails(
    device: Device, link: Proxy
) -> None:
    link.misbehave(BLOBS, drop_after(10_000))
    with device.agent() as agent:
        before = agent._spool.waiting()
        for _ in range(5):
            agent.poll()
        assert agent._spool.waiting() - before == 2


def grow_old(device: Device) -> None:
    """An hour passes for whatever was begun."""
    for part in (device.store / "blobs").glob("*.part"):
        then = part.stat().st_mtime - 3601
        os.utime(part, (then, then))


UNABLE: dict[str, Fault] = {
    "ignores ranges": ignore_range,
    "refuses ranges": answer(416),
    "sends other bytes": answer(206, b"x" * 10, Content_Range="bytes 0-9/400000"),
    "has another length": answer(206, b"x" * 10, Content_Range="bytes 300000-300009/300010"),
}


@pytest.mark.parametrize("name", UNABLE)
def test_a_server_that_cannot_go_on_costs_nothing_that_is_here(
    device: Device, link: Proxy, name: str
) -> None:
    link.misbehave(BLOBS, drop_after(300_000))
    device.poll()
    link.heal()
    link.misbehave(BLOBS, UNABLE[name])
    assert "300000" in device.poll()
    untouched(device)
    link.forget()
    heals(device, link)
    assert link.sent(BLOBS) <= 100_000 + 10_000  # the rest, and the small files


@pytest.mark.parametrize("name", UNABLE)
def test_a_server_that_cannot_go_on_for_an_hour_is_asked_for_the_whole_file(
    device: Device, link: Proxy, name: str
) -> None:
    link.misbehave(BLOBS, drop_after(300_000))
    device.poll()
    grow_old(device)
    link.heal()
    fault = UNABLE[name]
    link.misbehave(BLOBS, fault, times=None if fault is ignore_range else 1)
    device.poll()
    device.poll()
    assert device.live == "1.1.0"


def test_a_part_longer_than_the_file_is_not_gone_on_with(device: Device, link: Proxy) -> None:
    link.misbehave(BLOBS, drop_after(300_000))
    device.poll()
    part = device.store / "blobs" / f"{padding(device)}.part"
    part.write_bytes(b"x" * (PADDING_BYTES + 1))
    heals(device, link)


def test_a_part_with_other_bytes_is_thrown_away(device: Device, link: Proxy) -> None:
    link.misbehave(BLOBS, drop_after(300_000))
    device.poll()
    part = device.store / "blobs" / f"{padding(device)}.part"
    part.write_bytes(b"x" * 300_000)
    link.heal()
    assert "the bytes are not the signed ones" in device.poll()
    untouched(device)
    heals(device, link)


@given(offsets=st.lists(st.integers(0, PADDING_BYTES), min_size=1, max_size=4))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_dropped_anywhere_it_is_up_to_date_when_the_network_heals(
    old_device: Device,
    link: Proxy,
    moved_server: TestServer,
    tmp_path_factory: pytest.TempPathFactory,
    offsets: list[int],
) -> None:
    twin = behind_link(old_device, link, moved_server, tmp_path_factory.mktemp("drop") / "twin")
    for offset in offsets:
        link.misbehave(BLOBS, drop_after(offset), times=1)
    for _ in range(len(offsets) + 1):
        twin.clock.advance(hours=7)
        twin.poll()
    assert twin.live == "1.1.0"
    assert link.sent(BLOBS) <= PADDING_BYTES * 1.01 + 10_000


def test_a_busy_server_is_left_alone_as_long_as_it_asks(device: Device, link: Proxy) -> None:
    link.misbehave(BLOBS, answer(503, Retry_After="600"))
    with device.agent() as agent:
        agent.poll()
        assert agent._next_poll - device.ticks.now_s >= 600
    untouched(device)
    heals(device, link)


@pytest.mark.parametrize("limit", ["patience", "total"])
def test_a_trickle_is_given_up_though_every_byte_comes_in_time(
    old_device: Device, link: Proxy, tmp_path: Path, limit: str
) -> None:
    """The clock of the limits passes ten seconds a look; the server sends real single bytes."""
    del old_device
    link.heal()
    link.misbehave("/", trickle(0.001))
    link.misbehave("/", answer(200, b"x" * 5000))
    link.rules.reverse()
    limits = Limits(patience_s=60, total_s=1e9) if limit == "patience" else Limits(patience_s=1e9, total_s=60)
    transport = Transport(limits, monotonic=Ticks(step_s=10))
    part = tmp_path / "x.part"
    with pytest.raises(NetworkError, match=r"slower than|not finished in time"):
        transport.download(link.url + "/x", part, length_bytes=5000, sha256="0" * 64)
    assert part.stat().st_size < 5000
    with pytest.raises(NetworkError, match=r"slower than|not finished in time"):
        transport.get(link.url + "/x", max_bytes=5000)
    transport.close()


def test_silence_ends_a_transfer(link: Proxy) -> None:
    link.heal()
    link.misbehave("/", answer(200, b"xx"))
    link.misbehave("/", trickle(5))
    transport = Transport(Limits(silence_s=0.05))
    with pytest.raises(NetworkError, match="Timeout"):
        transport.get(link.url + "/x", max_bytes=5)
    transport.close()


def test_a_dead_host_and_a_bad_address_are_network_errors() -> None:
    transport = Transport(Limits(connect_s=0.2))
    for url in ("http://127.0.0.1:1/x", "http://" + "a" * 300 + "/x", "https://127.0.0.1:1/x"):
        with pytest.raises(NetworkError):
            transport.get(url, max_bytes=1)
    transport.close()


def test_https_to_a_server_that_speaks_plain_http_is_a_network_error(link: Proxy) -> None:
    transport = Transport()
    with pytest.raises(NetworkError):
        transport.get(link.url.replace("http:", "https:") + "/x", max_bytes=1)
    transport.close()


def test_statuses_have_their_errors(link: Proxy) -> None:
    link.heal()
    transport = Transport()
    link.misbehave("/gone", answer(404))
    with pytest.raises(MissingFileError) as gone:
        transport.get(link.url + "/gone", max_bytes=1)
    assert gone.value.status == 404
    link.misbehave("/busy", answer(503, Retry_After="7"))
    with pytest.raises(NetworkError) as busy:
        transport.get(link.url + "/busy", max_bytes=1)
    assert busy.value.retry_after_s == 7
    link.misbehave("/same", answer(304))
    with pytest.raises(NetworkError):  # nobody asked whether it changed
        transport.get(link.url + "/same", max_bytes=1)
    transport.close()


@given(
    data=st.binary(min_size=1, max_size=3000), have=st.integers(0, 3000), fill=st.sampled_from([b"", b"#"])
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_download_is_the_signed_bytes_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, link: Proxy, data: bytes, have: int, fill: bytes
) -> None:
    """Whatever lies in the part file: after one refusal at most, the file is right."""
    link.heal()
    part = tmp_path_factory.getbasetemp() / "any.part"
    part.write_bytes(fill * have or data[:have])
    whole = answer(200, data)
    link.misbehave("/any", whole)
    transport = Transport(wall=lambda: time.time() + 3601)  # this server has had its hour to serve ranges
    wanted = {"length_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    try:
        transport.download(link.url + "/any", part, **wanted)  # type: ignore[arg-type]
    except DigestMismatchError:
        assert not part.exists()
        transport.download(link.url + "/any", part, **wanted)  # type: ignore[arg-type]
    finally:
        transport.close()
    assert part.read_bytes() == data


def test_a_stopping_agent_gives_up_a_transfer_and_keeps_what_came(device: Device, link: Proxy) -> None:
    stoppable: list[Agent] = []

    def stop(_: Reply) -> None:
        stoppable[0].stop()

    link.misbehave(BLOBS, stop)

    with device.agent() as agent:
        stoppable.append(agent)
        sentences, failed = agent.poll_once()
    assert failed
    assert "the agent is ending" in sentences
    untouched(device)
    heals(device, link)
