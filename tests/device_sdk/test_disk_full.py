"""A disk that fills: one clear error, the running model untouched, the update completes later."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_sdk.errors import DiskFullError
from device_sdk.slots import Store
from device_sdk.transport import Transport
from tests.support.devices import Device

pytestmark = pytest.mark.usefixtures("no_self_test")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs is not permitted here; the injected writer covers the same")
    yield folder
    subprocess.run([shutil.which("umount") or "umount", "-l", str(folder)], check=True)


def test_a_real_full_disk_leaves_the_running_model_and_heals(
    old_device: Device, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = old_device.copy(small_disk / "twin")
    monkeypatch.setattr("device_sdk.slots._SPARE_BYTES", 0)
    filler = small_disk / "filler"
    # Rooms from "not even the state file" to "not quite the blob".
    for room in (0, 4096, 16384, 65536, 200_000, 380_000):
        fill(filler, room)
        before = twin.live
        twin.clock.advance(hours=7)
        with twin.agent() as agent:
            _, failed = agent.poll_once()
        assert failed
        assert "no room" in twin_error(twin) or "needs" in twin_error(twin) or room <= 16384
        assert twin.live == before == "1.0.0"
        answer = twin.predict()
        assert (answer.answered_by, answer.release) == ("live", "1.0.0")
    filler.unlink()
    twin.clock.advance(hours=7)
    sentence = twin.poll()
    assert twin.live == "1.1.0", sentence
    assert twin.predict().release == "1.1.0"


def twin_error(twin: Device) -> str:
    return str((twin.activity()["last_error"] or {}).get("message", ""))


def fill(filler: Path, room: int) -> None:
    filler.unlink(missing_ok=True)
    free = shutil.disk_usage(filler.parent).free
    with filler.open("wb") as stream:
        stream.write(b"\0" * max(0, free - room))


def test_a_disk_that_cannot_hold_the_update_is_told_before_the_first_byte(
    old_device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = old_device.copy(tmp_path / "twin")
    usage = shutil.disk_usage(tmp_path)
    tight = type(usage)(usage.total, usage.total, 300_000)
    monkeypatch.setattr("device_sdk.slots.shutil.disk_usage", lambda _: tight)

    def never(*_: object, **__: object) -> int:
        raise AssertionError("a byte was fetched")

    monkeypatch.setattr(Transport, "download", never)
    sentence = twin.poll()
    assert "in reserve, and has 300000 free" in sentence
    assert (twin.live, twin.update) == ("1.0.0", "failed")
    with pytest.raises(DiskFullError):
        Store(twin.store).check_room(1)


def test_a_writer_that_finds_no_room_in_the_middle_leaves_none_of_its_own(
    old_device: Device, tmp_path: Path
) -> None:
    twin = old_device.copy(tmp_path / "twin")
    genuine = os.fsync
    done: list[int] = []

    def full(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink().name
        if path.endswith(".part"):
            done.append(descriptor)
            raise OSError(errno.ENOSPC, "No space left on device")
        genuine(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("device_sdk.part_file.os.fsync", full)
        sentence = twin.poll()
    assert done
    assert "no room for" in sentence
    assert (twin.live, twin.update) == ("1.0.0", "failed")
    assert not list((twin.store / "blobs").glob("*.part"))
    assert twin.predict().release == "1.0.0"
    twin.clock.advance(hours=7)
    twin.poll()
    assert twin.live == "1.1.0"
