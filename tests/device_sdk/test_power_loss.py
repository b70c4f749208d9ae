"""A power cut at any moment, whatever it takes with it: the old or the new release answers, never neither.

Each test records what a real agent does to its store, then replays every prefix of that record under what
the disk may have lost of it (`tests.support.power_loss` has the model), starts a device on what is left,
asks it for an answer, and lets it go on.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from device_sdk.agent import Agent
from device_sdk.durable import fsync_directory
from device_sdk.model import Model
from ota_contract.documents import read_document
from ota_contract.report import Transition, UpdateState, report_from
from tests.support.crashes import PowerCut, watched
from tests.support.devices import Device, complete, feed, make_device, settle
from tests.support.fleet import TestServer, start_server
from tests.support.power_loss import Crash, Fate, Outcome, Recording, outcome_of, recorded
from tests.support.tiny import TinyRelease

pytestmark = pytest.mark.usefixtures("no_self_test")

OLDEST = TinyRelease(padding_bytes=5_000)
OLD = TinyRelease(version="1.1.0", counter=2, seed=1)
NEW = TinyRelease(version="1.2.0", counter=3, seed=2, padding_bytes=60_000)
ORDER = list(UpdateState)
EXPLORED = 120
KILLS = 10
"""Random subsets per record, beside what is tried at every prefix."""


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """In memory where there is such a place: the model says what a disk keeps, not the disk."""
    shm = Path("/dev/shm")  # noqa: S108 - a private folder in it
    folder = Path(tempfile.mkdtemp(dir=shm if os.access(shm, os.W_OK) else None))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    server = start_server(tmp_path_factory.mktemp("three"))
    for release in (OLDEST, OLD, NEW):
        server.publish(release)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def before(three: TestServer, memory: Path) -> Device:
    """1.1.0 is live and healthy, 1.0.0 is kept, and the policy names 1.2.0."""
    device = make_device(three, memory / "before")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("device_sdk.updater.self_test", lambda *_, **__: 3)
        for version in ("1.0.0", "1.1.0"):
            complete(three, version)
            device.clock.now = three.clock()
            settle(device)
    complete(three, "1.2.0")
    device.clock.now = three.clock()
    assert (device.live, device.update) == ("1.1.0", "healthy")
    return device


@dataclass(slots=True, kw_only=True)
class Bench:
    """Replays a record onto copies of a device, each distinct state once."""

    device: Device
    recording: Recording
    check: Callable[[Device], None]
    least_steps: int = 10
    seen: set[str] = field(default_factory=set)
    tried: int = 0

    def replay(self, crash: Crash, outcome: Outcome) -> None:
        """Try one state the disk may be in."""
        self.tried += 1
        digest = outcome.digest
        if digest in self.seen:
            return
        folder = self.device.folder.with_name(f"{self.device.folder.name}-crash")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for path in self.device.folder.iterdir():
            if path.is_file():
                shutil.copy(path, folder)
        outcome.write(folder / "store", age_s=7200)
        twin = Device(folder=folder, config_path=folder / self.device.config_path.name)
        twin.clock.now = self.device.clock.now
        try:
            self.check(twin)
        except BaseException as error:
            error.add_note(f"power lost at:\n{self.recording.describe(crash)}")
            raise
        self.seen.add(digest)

    def everywhere(self) -> None:
        """Every prefix, with all that was under way lost, there, or torn."""
        assert len(self.recording.steps) > self.least_steps
        for crash in self.recording.crashes():
            for entries in ((), crash.entries):
                for fate in Fate:
                    fates = dict.fromkeys(crash.files, fate)
                    self.replay(crash, self.recording.outcome(crash, entries=entries, fate=fates.__getitem__))

    def anyhow(self, examples: int = EXPLORED) -> None:
        """Prefixes with any subset of what was under way; a failing one is made as small as may be."""

        @settings(
            max_examples=examples,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def explore(data: st.DataObject) -> None:
            crash = self.recording.crash(data.draw(st.integers(0, len(self.recording.steps))))
            kept = [number for number in crash.entries if data.draw(st.booleans())]
            fates = {file: data.draw(st.sampled_from(Fate)) for file in crash.files}
            self.replay(crash, self.recording.outcome(crash, entries=kept, fate=fates.__getitem__))

        explore()


def record(device: Device, action: Callable[[Device], None], check: Callable[[Device], None]) -> Bench:
    """Record an action, and make sure that nothing of it went unseen."""
    (device.folder / "store").mkdir(exist_ok=True)
    with recorded(device.store) as recording:
        action(device)
    crash = recording.crash(len(recording.steps))
    everything = recording.outcome(crash, entries=crash.entries, fate=lambda _: Fate.KEPT)
    assert everything.digest == outcome_of(device.store).digest, "a write escaped the record"
    return Bench(device=device, recording=recording, check=check)


def poll_and_report(device: Device) -> None:
    with device.agent() as agent:
        agent.poll()
        agent.report_now()


def answers(device: Device, *releases: str) -> str:
    """By its live release, one of these."""
    answer = device.predict()
    assert answer.answered_by == "live", answer
    assert answer.release == device.live
    assert answer.release in releases
    return answer.release


def has_what_it_names(device: Device) -> None:
    """Every slot has its release."""
    state = device.state
    for slot in (state.live, state.candidate, state.previous):
        if slot is not None:
            device.slots.installed(slot)


def is_consistent(device: Device) -> None:
    """Every slot has its release, and no report is ahead of the record."""
    has_what_it_names(device)
    update = device.state.update
    for path in (device.store / "reports" / "outgoing").glob("*.json"):
        report = report_from(read_document(path.read_bytes(), what="report", format_=None, max_bytes=16384))
        if isinstance(report.content, Transition) and report.version == "1.2.0":
            assert update is not None
            assert update.version == "1.2.0", f"{report.content.state} was to be reported, and was forgotten"
            assert ORDER.index(report.content.state) <= ORDER.index(update.state)


def is_tidy(device: Device) -> None:
    state = device.state
    assert state.candidate is None
    kept = {slot.version for slot in (state.live, state.previous) if slot}
    folders = {path.name.partition("-")[0] for path in (device.slots.root / "releases").iterdir()}
    assert folders == kept
    litter = [
        path
        for path in device.store.rglob("*")
        if path.name.startswith((".", "tmp")) or path.suffix in (".part", ".new", ".made", ".useless")
    ]
    assert not litter


def goes_on(device: Device, live: str = "1.2.0") -> None:
    """With the power on it comes to the end of its update by itself, and leaves nothing lying about."""
    with device.agent() as agent:
        for _ in range(2):  # a torn download is found to be one at the first, and thrown away
            device.clock.advance(hours=7)
            sentence = agent.poll()
    assert device.live == live, sentence
    answers(device, live)
    is_tidy(device)


def test_an_update_leaves_the_old_or_the_new_release(before: Device, memory: Path) -> None:
    """Polling, downloading, staging, going live, reporting, and removing the release before the last."""

    def check(twin: Device) -> None:
        is_consistent(twin)
        seen.add(answers(twin, "1.1.0", "1.2.0"))
        goes_on(twin)
        previous = twin.state.previous
        assert previous is not None
        assert previous.version == "1.1.0"

    seen = set[str]()
    bench = record(before.copy(memory / "update"), poll_and_report, check)
    assert bench.device.live == "1.2.0"
    bench.everywhere()
    bench.anyhow()
    assert seen == {"1.1.0", "1.2.0"}
    assert len(bench.seen) > 400


@pytest.fixture(scope="module")
def on_trial(before: Device, memory: Path) -> Device:
    """1.2.0 is live on trial, and its update was reported."""
    device = before.copy(memory / "on-trial")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("device_sdk.updater.self_test", lambda *_, **__: 3)
        poll_and_report(device)
    assert (device.live, device.update) == ("1.2.0", "live_on_trial")
    return device


def run_a_trial(device: Device) -> None:
    """Twelve answers, judged and reported; without Ferry and its thread, so all of it is recorded."""
    with device.agent() as agent:
        model = Model(device.slots.name, device.slots, agent._spool, None, 1)
        feed(model, 12)
        model.flush(interval_s=0, rollout_interval_s=0, now=True)
        agent.report_now()
        model.close()


def test_a_trial_ends_healthy_whatever_is_lost_of_it(on_trial: Device, memory: Path) -> None:
    """Starts, counts and the verdict: a cut costs counts at most, and is no crash loop."""

    def check(twin: Device) -> None:
        is_consistent(twin)
        answers(twin, "1.2.0")
        assert twin.update in ("live_on_trial", "healthy")
        run_a_trial(twin)
        assert twin.update == "healthy"
        goes_on(twin)
        assert twin.slots.starts() == 0

    bench = record(on_trial.copy(memory / "trial"), run_a_trial, check)
    assert bench.device.update == "healthy"
    bench.everywhere()
    bench.anyhow(60)


def test_a_rollback_is_made_once_and_not_undone(on_trial: Device, memory: Path) -> None:
    """It ends on the former release, and the one rolled back from is not tried again."""

    def crash_loops(device: Device) -> None:
        with device.agent() as agent:
            agent.poll()
            agent.report_now()

    def check(twin: Device) -> None:
        is_consistent(twin)
        answers(twin, "1.1.0", "1.2.0")
        goes_on(twin, live="1.1.0")
        assert twin.update == "rolled_back"
        assert twin.state.refusals[0].version == "1.2.0"
        assert twin.slots.starts() == 0

    device = on_trial.copy(memory / "rollback")
    for _ in range(4):
        device.slots.note_start()
    bench = record(device, crash_loops, check)
    assert (device.live, device.update) == ("1.1.0", "rolled_back")
    bench.everywhere()
    bench.anyhow(60)


def test_a_first_install_comes_to_its_end(before: Device, memory: Path) -> None:
    """Nothing ran before, so nothing answers until it has; trust, folders and token are made on the way."""

    def check(twin: Device) -> None:
        is_consistent(twin)
        if twin.live is not None:
            answers(twin, "1.2.0")
        token = twin.store / "token"
        assert not token.exists() or token.read_bytes() == device_token
        goes_on(twin)

    device = before.copy(memory / "first")
    text = device.config_path.read_text()
    device.config_path.write_text(text.replace('"device-1"', '"device-first"'))
    shutil.rmtree(device.store)
    bench = record(device, poll_and_report, check)
    device_token = (device.store / "token").read_bytes()
    assert device.live == "1.2.0"
    bench.everywhere()
    bench.anyhow(60)


def test_a_cut_after_a_kill_finds_nothing_half_done(before: Device, memory: Path) -> None:
    """The next process takes what a killed one had written for sound, fsynced or not."""

    def killed_then_again(device: Device) -> None:
        kill_at(device, number)
        poll_and_report(device)

    def check(twin: Device) -> None:
        has_what_it_names(twin)
        answers(twin, "1.1.0", "1.2.0")
        goes_on(twin)

    counting = before.copy(memory / "counting")
    total = kill_at(counting, None)
    seen = set[str]()
    for number in range(3, total, max(1, total // KILLS)):
        device = before.copy(memory / f"killed-{number}")
        bench = record(device, killed_then_again, check)
        bench.seen = seen
        bench.anyhow(EXPLORED // KILLS)
        shutil.rmtree(device.folder)


def kill_at(device: Device, number: int | None) -> int:
    """A process that polls and is killed at its n-th change of the disk; returns how many it made."""
    with watched(stop_at=number) as journal:
        agent = None
        with contextlib.suppress(PowerCut):
            agent = Agent(device.config, clock=device.clock, monotonic=device.ticks)
            agent.poll()
    if agent is not None:
        os.close(agent._lock)
    return len(journal.done)


def test_the_record_misses_no_write(tmp_path: Path) -> None:
    """However a file is changed, it is in the record, and everything kept is the folder as it is."""

    def write(folder: Path) -> None:
        (folder / "a").write_bytes(b"one")
        descriptor = os.open(folder / "a", os.O_RDWR)
        os.pwrite(descriptor, b"two", 1)
        os.ftruncate(descriptor, 3)
        os.close(descriptor)
        with (folder / "b").open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, 100)
        (folder / "c").hardlink_to(folder / "a")
        (folder / "d").symlink_to("a")
        (folder / "e").mkdir()
        (folder / "b").rename(folder / "e" / "f")
        (folder / "a").unlink()
        (folder / "a").write_bytes(b"three")
        os.sync()

    (tmp_path / "store").mkdir()
    with recorded(tmp_path / "store") as recording:
        write(tmp_path / "store")
    crash = recording.crash(len(recording.steps))
    everything = recording.outcome(crash, entries=crash.entries, fate=lambda _: Fate.KEPT)
    assert everything.digest == outcome_of(tmp_path / "store").digest
    everything.write(tmp_path / "again")
    assert outcome_of(tmp_path / "again").digest == everything.digest
    nothing = recording.outcome(crash, entries=(), fate=lambda _: Fate.LOST)
    assert nothing.entries == ()


@pytest.mark.parametrize("forgets", [(), ("file",), ("folder",)])
def test_a_forgotten_fsync_is_found(tmp_path: Path, forgets: tuple[str, ...]) -> None:
    """The model itself: of two notes, the second about the first, each must be on disk before the next."""

    def note(path: Path, text: bytes) -> None:
        with path.with_suffix(".new").open("wb") as stream:
            stream.write(text)
            stream.flush()
            if "file" not in forgets:
                os.fsync(stream.fileno())
        path.with_suffix(".new").replace(path)
        if "folder" not in forgets:
            fsync_directory(path.parent)

    root = tmp_path / "store"
    (root / "one").mkdir(parents=True)
    (root / "two").mkdir()
    with recorded(root) as recording:
        note(root / "one" / "state", b"new")
        note(root / "two" / "told", b"new is there")
    states = set()
    for crash in recording.crashes():
        for kept in itertools.product((False, True), repeat=len(crash.entries)):
            for fate in Fate:
                fates = dict.fromkeys(crash.files, fate)
                entries = list(itertools.compress(crash.entries, kept))
                outcome = recording.outcome(crash, entries=entries, fate=fates.__getitem__)
                names = {name: outcome.data.get(number, b"") for name, _, number in outcome.entries}
                states.add((names.get("one/state"), names.get("two/told")))
    sound = {(None, None), (b"new", None), (b"new", b"new is there")}
    assert (states == sound) is (not forgets)
