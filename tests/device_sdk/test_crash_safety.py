"""A power cut or a full disk at any write leaves the old or the new release, and the update completes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_sdk.agent import Agent
from device_sdk.durable import make_folder, rename_durably, write_durably
from device_sdk.errors import DiskFullError, StoreError
from device_sdk.ferry import Ferry
from device_sdk.model import Model
from tests.support.crashes import PowerCut, watched
from tests.support.devices import Device, feed
from tests.support.tiny import image

pytestmark = pytest.mark.usefixtures("no_self_test")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where there is such a place: thousands of fsyncs are most of these tests' time."""
    memory = Path("/dev/shm")  # noqa: S108 - a private folder in it
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def poll_until(device: Device, stop_at: int | None, *, full: bool) -> list[str]:
    """Poll once with a fault at the n-th change of the disk; returns what was done."""
    with watched(stop_at=stop_at, full=full) as journal:
        agent = None
        try:
            agent = Agent(device.config, clock=device.clock, monotonic=device.ticks)
            agent.poll()
        except (PowerCut, StoreError):
            pass
    if agent is not None:
        os.close(agent._lock)
    return journal.done


def run_a_trial(device: Device) -> None:
    """Twelve answers, judged."""
    with device.agent() as agent, Ferry(device.config, start_agent=False) as ferry:
        model = ferry.model("vision/digits")
        feed(model, 12)
        model.flush(interval_s=0, rollout_interval_s=0, now=True)
        agent._take_windows()


def works(device: Device) -> str:
    """It runs the old or the new release, by itself."""
    answer = device.predict()
    assert answer.answered_by == "live"
    assert answer.release in ("1.0.0", "1.1.0")
    assert answer.release == device.live
    return answer.release


def completes(device: Device) -> None:
    device.clock.advance(hours=7)
    sentence = device.poll()
    assert device.live == "1.1.0", sentence
    assert works(device) == "1.1.0"
    state = device.state
    assert state.candidate is None
    assert state.previous is not None
    assert state.previous.version == "1.0.0"
    assert not list(device.slots.root.glob("releases/.*"))
    assert not list((device.store / "blobs").glob("*.part"))


@pytest.fixture(scope="module")
def changes(old_device: Device, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Everything an update does to the disk, in order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("device_sdk.updater.self_test", lambda *_, **__: 3)
        twin = old_device.copy(tmp_path_factory.mktemp("count") / "twin")
        done = poll_until(twin, None, full=False)
    assert twin.live == "1.1.0"
    return done


def test_every_state_is_on_disk_before_the_next_begins(changes: list[str]) -> None:
    """Offered, downloading, verified, staged, self-tested, live: six durable replacements of one file."""
    assert len(changes) > 60
    replaced = [index for index, change in enumerate(changes) if "/.state.json.new" in change]
    kinds = [changes[index].partition(" ")[0] for index in replaced]
    assert kinds == ["write", "replace"] * 6
    for index in replaced[1::2]:
        assert changes[index - 1].startswith("fsync")  # the content, before the name
        assert changes[index + 1].startswith("write") is False


@pytest.mark.parametrize("kind", ["power cut", "disk full"])
def test_a_fault_at_any_write_leaves_a_release_that_answers_and_the_update_completes(
    old_device: Device, changes: list[str], tmp_path: Path, kind: str
) -> None:
    full = kind == "disk full"
    seen = set()
    for number in range(len(changes)):
        twin = old_device.copy(tmp_path / f"twin-{number}")
        done = poll_until(twin, number, full=full)
        assert len(done) > number, "the fault was not met"
        seen.add(works(twin))
        completes(twin)
    assert seen == {"1.0.0", "1.1.0"}


@pytest.mark.parametrize("full", [False, True])
def test_a_fault_at_any_write_of_a_trial_leaves_a_release_that_answers(
    old_device: Device, tmp_path: Path, *, full: bool
) -> None:
    """From live on trial to healthy: counts, starts, verdict."""
    fresh = old_device.copy(tmp_path / "fresh")
    fresh.poll()
    with watched() as journal:
        run_a_trial(fresh)
    assert fresh.update == "healthy"
    for number in range(len(journal.done)):
        twin = old_device.copy(tmp_path / f"trial-{number}")
        twin.poll()
        with watched(stop_at=number, full=full):
            lock = None
            try:
                agent = Agent(twin.config, clock=twin.clock, monotonic=twin.ticks)
                lock = agent._lock
                model_answers(twin, agent)
            except (PowerCut, StoreError):
                pass
        if lock is not None:
            os.close(lock)
        assert works(twin) == "1.1.0"
        run_a_trial(twin)
        assert twin.update == "healthy", number
        assert works(twin) == "1.1.0"


def model_answers(device: Device, agent: Agent) -> None:
    # Without Ferry and its thread: every change of the disk is this thread's.
    model = Model(device.slots.name, device.slots, agent._spool, None, 1)
    feed(model, 12)
    model.flush(interval_s=0, rollout_interval_s=0, now=True)
    agent._take_windows()
    model.close()


def test_a_first_install_cut_anywhere_completes_too(old_device: Device, tmp_path: Path) -> None:
    """Nothing ran before, so nothing is promised but that it ends with the new release."""
    clean = old_device.copy(tmp_path / "clean")
    wipe(clean)
    total = len(poll_until(clean, None, full=False))
    assert clean.live == "1.1.0"
    for number in range(0, total, 3):
        twin = old_device.copy(tmp_path / f"first-{number}")
        wipe(twin)
        poll_until(twin, number, full=False)
        assert twin.live in (None, "1.1.0")
        twin.clock.advance(hours=7)
        sentence = twin.poll()
        assert twin.live == "1.1.0", sentence
        assert works(twin) == "1.1.0"


def wipe(device: Device) -> None:
    shutil.rmtree(device.store)


def test_write_durably_leaves_the_old_or_the_new_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with watched() as journal:
        write_durably(path, b"new")
    assert [change.partition(" ")[0] for change in journal.done] == ["write", "fsync", "replace", "fsync"]
    for number in range(len(journal.done)):
        path.write_bytes(b"old")
        with watched(stop_at=number), pytest.raises(PowerCut):
            write_durably(path, b"new")
        assert path.read_bytes() == (b"old" if number < 3 else b"new")
    for number in range(3):
        path.write_bytes(b"old")
        with watched(stop_at=number, full=True), pytest.raises(DiskFullError):
            write_durably(path, b"new")
        assert path.read_bytes() == b"old"
        assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_new_folders_are_durable_and_private(tmp_path: Path) -> None:
    with watched() as journal:
        make_folder(tmp_path / "a" / "b")
    assert [change.partition(" ")[0] for change in journal.done] == ["mkdir", "fsync", "mkdir", "fsync"]
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")} == {0o700}


def test_refusals_of_the_file_system_are_store_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        make_folder(tmp_path / "file" / "below")
    with pytest.raises(StoreError):
        write_durably(tmp_path / "missing" / "file", b"")
    with pytest.raises(StoreError):
        rename_durably(tmp_path / "missing", tmp_path / "other")


def test_everything_on_the_device_is_readable_by_its_owner_alone(old_device: Device, tmp_path: Path) -> None:
    old_mask = os.umask(0o000)
    try:
        twin = old_device.copy(tmp_path / "twin")
        wipe(twin)
        twin.poll()
        twin.predict()
        with twin.agent() as agent, pytest.raises(Exception, match="has enrolled before"):
            agent.report_now()
    finally:
        os.umask(old_mask)
    for path in (twin.store, *twin.store.rglob("*")):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_process_that_dies_between_state_and_report_reports_it_at_its_next_start(
    old_device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = old_device.copy(tmp_path / "twin")
    with twin.agent() as agent:
        for path, _ in agent._spool.outgoing(100):
            path.unlink()

        def no_room(*_: object) -> None:
            raise DiskFullError("no room")

        monkeypatch.setattr(agent._spool, "add", no_room)
        agent.poll()
        assert twin.update == "live_on_trial"
        assert agent._spool.waiting() == 0
    with twin.agent() as agent:
        states = [report.content.state.value for _, report in agent._spool.outgoing(100)]  # type: ignore[union-attr]
        assert states == ["live_on_trial"]
        ids = [report.id for _, report in agent._spool.outgoing(100)]
    with twin.agent() as agent:
        assert [report.id for _, report in agent._spool.outgoing(100)] == ids * 2  # the server counts it once


def test_transitions_a_full_disk_had_no_room_for_are_queued_when_there_is(
    old_device: Device, tmp_path: Path
) -> None:
    twin = old_device.copy(tmp_path / "twin")
    with twin.agent() as agent:
        waiting = agent._spool.waiting()

        def no_room(*_: object) -> None:
            raise DiskFullError("no room")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(agent._spool, "add", no_room)
            agent.poll()
        agent._take_windows()
        states = [report.content.state.value for _, report in agent._spool.outgoing(100)[waiting:]]  # type: ignore[union-attr]
    assert states == ["offered", "downloading", "verified", "staged", "self_tested", "live_on_trial"]


def test_predictions_go_on_where_starts_and_counts_find_no_room(
    old_device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release on trial waits for room for its start to be noted; the previous one answers meanwhile."""
    twin = old_device.copy(tmp_path / "twin")
    twin.poll()

    def no_room(*_: object) -> None:
        raise DiskFullError("no room to write")

    monkeypatch.setattr("device_sdk.slots.write_durably", no_room)
    monkeypatch.setattr("device_sdk.spool.write_durably", no_room)
    with Ferry(twin.config, start_agent=False) as ferry:
        answer = ferry.model("vision/digits").predict({"image": image()})
        assert (answer.answered_by, answer.release) == ("previous", "1.0.0")
        assert "no room to write" in answer.reason
    monkeypatch.undo()
    assert twin.predict().release == "1.1.0"
