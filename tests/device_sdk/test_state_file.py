"""A damaged record: the one before it stands in, and where there is none the device installs anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from device_sdk.errors import StoreError
from device_sdk.records import ModelState, Slot
from device_sdk.state_file import StateFile
from tests.support.devices import DIGITS, Device, complete, make_device, settle
from tests.support.fleet import TestServer

pytestmark = pytest.mark.usefixtures("no_self_test")

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "zeros": lambda data: bytes(len(data)),
    "half": lambda data: data[: len(data) // 2],
    "another format": lambda data: data.replace(b"device-state/1", b"device-state/9"),
    "one bit": lambda data: data.replace(b'"live"', b'"lite"'),
    "text": lambda _: b"hello\n",
}


def slot(version: str) -> Slot:
    return Slot(version=version, counter=1, manifest_sha256="0" * 64, variant_id="v")


@pytest.fixture
def record(tmp_path: Path) -> StateFile:
    record = StateFile(tmp_path)
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        record.write(ModelState(live=slot(version)))
    return record


def live(record: StateFile) -> str:
    state = record.read()
    assert state.live is not None
    return state.live.version


@pytest.mark.parametrize("how", DAMAGE)
def test_the_record_before_stands_in_and_is_put_in_its_place(record: StateFile, how: str) -> None:
    record.path.write_bytes(DAMAGE[how](record.path.read_bytes()))
    assert live(record) == "1.1.0"  # an app reads it, and writes nothing
    assert "damaged" in record.damage()
    assert "the one before it was put in its place" in record.mend()
    assert (live(record), record.damage(), record.mend()) == ("1.1.0", "", "")


def test_a_damaged_record_is_never_kept_as_the_one_before(record: StateFile) -> None:
    record.path.write_bytes(b"")
    record.write(ModelState(live=slot("1.3.0")))
    record.path.write_bytes(b"")
    assert live(record) == "1.1.0"


def test_writing_over_the_record_leaves_the_one_before_as_it_was(record: StateFile) -> None:
    """They are two files, not two names of one."""
    assert record.path.stat().st_nlink == record.former_path.stat().st_nlink == 1
    with record.path.open("r+b") as stream:
        stream.write(bytes(20))
    assert live(record) == "1.1.0"


def test_with_both_damaged_an_app_is_told_and_the_agent_begins_anew(record: StateFile) -> None:
    record.path.write_bytes(b"{")
    record.former_path.write_bytes(b"{")
    with pytest.raises(StoreError, match=r"state\.json is damaged"):
        record.read()
    assert "all is installed anew" in record.mend()
    assert record.read() == ModelState()
    assert record.path.with_suffix(".damaged").read_bytes() == b"{"


def test_a_record_that_cannot_be_read_is_not_taken_for_a_damaged_one(record: StateFile) -> None:
    """A folder in its place, or an input error: nothing is replaced that may be whole tomorrow."""
    record.path.unlink()
    record.path.mkdir()
    with pytest.raises(StoreError):
        record.mend()
    assert record.path.is_dir()


def test_a_device_with_a_damaged_record_goes_on_from_the_one_before(
    old_device: Device, tmp_path: Path
) -> None:
    twin = old_device.copy(tmp_path / "twin")
    twin.poll()
    assert twin.update == "live_on_trial"
    twin.slots.state_path.write_bytes(b"")
    assert twin.predict().release == "1.0.0"  # on its way to 1.1.0, by what is left
    twin.poll()
    assert (twin.live, twin.update) == ("1.1.0", "live_on_trial")
    assert twin.predict().release == "1.1.0"


def test_a_device_with_nothing_to_go_by_installs_from_the_blobs_it_has(
    own_server: TestServer, tmp_path: Path
) -> None:
    device = make_device(own_server, tmp_path / "device")
    settle(device)
    complete(own_server, "1.1.0")
    device.clock.now = own_server.clock()
    device.poll()
    for path in (device.slots.state_path, device.slots.record.former_path):
        path.write_bytes(b"\0")
    before = own_server.traffic()
    sentence = device.poll()
    assert device.live == "1.1.0", sentence
    assert device.predict().answered_by == "live"
    assert own_server.traffic().body_bytes - before.body_bytes < 100_000  # of a blob of 400,000
    assert "damaged" in device.activity()["last_error"]["message"]
    assert str(DIGITS) in device.activity()["last_error"]["message"]
