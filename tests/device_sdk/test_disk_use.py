"""What a device keeps on its disk, and how much of it: the slots' own files, each content once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from device_sdk.slots import Store, files_of
from tests.support.devices import AT_ONCE, Device, complete, make_device, settle
from tests.support.fleet import TestServer
from tests.support.network import drop_after, run_proxy
from tests.support.tiny import TinyRelease

pytestmark = pytest.mark.usefixtures("no_self_test")

Behind = Callable[..., Device]
BIG = 400_000
"""As `NEW` of the conftest: the padding of 1.1.0."""


def needed_by(device: Device) -> set[str]:
    """What the slots are made of, read from the release folders themselves."""
    state = device.state
    found: set[str] = set()
    for slot in (state.live, state.candidate, state.previous):
        if slot is not None:
            installed = device.slots.installed(slot)
            found |= {file.sha256 for file in files_of(installed.release, installed.variant)}
    return found


def blobs_of(device: Device) -> set[str]:
    return {path.name for path in (device.store / "blobs").iterdir()}


def bytes_on_disk(folder: Path) -> int:
    """Each file once, however many names it has."""
    return sum(
        {path.stat().st_ino: path.stat().st_size for path in folder.rglob("*") if path.is_file()}.values()
    )


def test_exactly_what_the_slots_are_made_of_is_kept(own_server: TestServer, behind: Behind) -> None:
    """Not a former release's files, not another variant's, not a download's rest."""
    device = behind(own_server)
    settle(device)
    own_server.publish(TinyRelease(version="1.2.0", counter=3, seed=2, other_variant_bytes=50_000))
    for version in ("1.1.0", "1.2.0"):
        complete(own_server, version)
        device.clock.now = own_server.clock()
        settle(device)
        assert blobs_of(device) == needed_by(device)
    assert device.live == "1.2.0"
    (device.store / "blobs" / ("0" * 64)).write_bytes(b"of a release long gone")
    live = device.state.live
    assert live is not None
    release = device.slots.installed(live).release
    other = next(variant for variant in release.variants if variant.id != live.variant_id)
    for file in other.files:
        device.slots._store.blob(file.sha256).write_bytes(bytes(file.length_bytes))
    device.poll()
    assert blobs_of(device) == needed_by(device)
    assert [path.name for path in (device.slots.root / "releases").iterdir() if "1.0.0" in path.name] == []


def test_a_release_in_two_places_takes_the_room_of_one(old_device: Device, tmp_path: Path) -> None:
    twin = old_device.copy(tmp_path / "twin")
    twin.poll()
    live = twin.state.live
    assert live is not None
    installed = twin.slots.installed(live)
    for file in files_of(installed.release, installed.variant):
        path, blob = installed.folder / file.path, twin.store / "blobs" / file.sha256
        assert path.samefile(blob)
        assert path.stat().st_nlink == 2
    assert bytes_on_disk(twin.store) < 1.3 * BIG


def test_releases_and_models_that_share_a_file_share_its_room(own_server: TestServer, tmp_path: Path) -> None:
    """The same weights under another label, and in another model."""
    same = TinyRelease(version="1.2.0", counter=3, seed=1, padding_bytes=BIG, label="again")
    own_server.publish(same)
    own_server.publish(TinyRelease(model="audio/digits", seed=1, padding_bytes=BIG))
    device = make_device(own_server, tmp_path / "device")
    text = device.config_path.read_text()
    device.config_path.write_text(text.replace('["vision/digits"]', '["vision/digits", "audio/digits"]'))
    complete(own_server, "1.0.0", model="audio/digits")
    for version in ("1.1.0", "1.2.0"):
        complete(own_server, version)
        device.clock.now = own_server.clock()
        settle(device)
    assert device.live == "1.2.0"
    padding = list(device.store.rglob("padding.bin"))
    assert len(padding) == 3  # live, previous, and the other model's
    assert len({path.stat().st_ino for path in padding}) == 1
    assert padding[0].stat().st_nlink == 4
    assert bytes_on_disk(device.store) < 1.3 * BIG


def test_a_download_given_up_leaves_nothing(own_server: TestServer, behind: Behind) -> None:
    """The policy turns back while a download is broken off: its rest goes with the next poll."""
    with run_proxy(own_server.url) as proxy:
        device = behind(own_server, proxy.url)
        settle(device)
        proxy.misbehave("/blobs/", drop_after(100_000))
        rollout = own_server.roll_out("1.1.0", stages=[{**AT_ONCE[0], "min_healthy": 99}])
        device.poll()
        device.poll()
        assert list((device.store / "blobs").glob("*.part"))
        proxy.heal()
        own_server.client().post("rollouts", rollout, "halt")
        own_server.client().post("rollouts", rollout, "rollback")
        own_server.tick()
        device.clock.now = own_server.clock()
        assert "1.0.0 is live" in device.poll()
        assert blobs_of(device) == needed_by(device)


def test_two_models_on_a_bad_link_do_not_cost_each_other_their_bytes(
    own_server: TestServer, tmp_path: Path
) -> None:
    """Each poll brings some of both; neither's rest is thrown away for the other's."""
    own_server.publish(TinyRelease(model="audio/digits", seed=5, padding_bytes=BIG))
    complete(own_server, "1.0.0", model="audio/digits")
    complete(own_server, "1.1.0")
    with run_proxy(own_server.url) as proxy:
        device = make_device(own_server, tmp_path / "device", url=proxy.url)
        text = device.config_path.read_text()
        device.config_path.write_text(text.replace('["vision/digits"]', '["vision/digits", "audio/digits"]'))
        proxy.misbehave("/blobs/", drop_after(150_000))
        for _ in range(4):  # a new process each time, at that
            device.clock.advance(hours=7)
            device.poll()
        assert device.live == "1.1.0"
        assert Store(device.store).model(replace(device.slots.name, publisher="audio")).state().live
        assert not list((device.store / "blobs").glob("*.part"))


@pytest.mark.parametrize("links", [True, False])
def test_room_is_asked_for_once_where_files_can_be_linked_and_twice_where_not(
    old_device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    twin = old_device.copy(tmp_path / "twin")
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("device_sdk.slots._SPARE_BYTES", 0)
    room = type(usage)(usage.total, usage.total, int(1.5 * BIG))
    monkeypatch.setattr("device_sdk.slots.shutil.disk_usage", lambda _: room)
    sentence = twin.poll()
    assert ("is live on trial" in sentence) is links, sentence
    assert ("needs 8" in sentence) is not links
    monkeypatch.setattr(
        "device_sdk.slots.shutil.disk_usage", lambda _: type(usage)(usage.total, usage.total, int(2.1 * BIG))
    )
    twin.clock.advance(hours=7)
    twin.poll()
    assert twin.live == "1.1.0"
    assert twin.predict().release == "1.1.0"
    expected = BIG if links else 2 * BIG
    assert expected < bytes_on_disk(twin.store) < expected + 0.3 * BIG


def refuse(*_: object) -> None:
    raise OSError(95, os.strerror(95))


def test_what_came_already_needs_no_room_again(
    own_server: TestServer, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_proxy(own_server.url) as proxy:
        device = behind(own_server, proxy.url)
        settle(device)
        complete(own_server, "1.1.0")
        proxy.misbehave("/blobs/", drop_after(300_000))
        device.poll()
        proxy.heal()
        usage = shutil.disk_usage(device.folder)
        monkeypatch.setattr("device_sdk.slots._SPARE_BYTES", 0)
        tight = type(usage)(usage.total, usage.total, 150_000)
        monkeypatch.setattr("device_sdk.slots.shutil.disk_usage", lambda _: tight)
        device.clock.advance(hours=7)
        device.poll()
        assert device.live == "1.1.0"
