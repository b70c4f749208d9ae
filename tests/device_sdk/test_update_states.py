"""Whatever comes in whatever order, an update moves by the table, on disk first, and something always runs.

A real agent with a real store fetches real blobs. Policies, faults, verdicts, crashes and restarts are drawn;
only the signatures around a policy are left out, so that one can be named in a microsecond.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from device_sdk.agent import Agent
from device_sdk.errors import DeviceError, InterruptedUpdateError, SelfTestError
from device_sdk.records import ModelState, Update
from device_sdk.slots import files_of
from device_sdk.spool import Spool
from device_sdk.state_file import StateFile
from device_sdk.state_machine import TRANSITIONS
from device_sdk.trust import Manifest
from device_sdk.trust_record import TrustRecord
from ota_contract.assignment import Arm
from ota_contract.conditions import parse_condition
from ota_contract.manifest import MANIFEST_NAME, Release, parse_release
from ota_contract.names import ModelName
from ota_contract.policy import Policy, ReleaseRef, Rule
from ota_contract.report import AnsweredBy, FallbackCause, Report, Transition, UpdateState, Window
from tests.support.crashes import PowerCut, watched
from tests.support.devices import DIGITS, Device, make_device
from tests.support.fleet import TestServer
from tests.support.network import Proxy, drop_after, run_proxy
from tests.support.tiny import TinyRelease

VERSIONS = ("1.0.0", "1.1.0", "1.2.0")
HUGE = "1.3.0"
"""Fits no device: it asks for more memory than there is."""
EXAMPLES, STEPS = 60, 40


@dataclass(slots=True)
class Signed:
    """What the trust layer says, with the signatures left out."""

    manifests: Mapping[str, bytes]
    record: TrustRecord = field(default_factory=TrustRecord)
    now: Policy | None = None

    def name(self, version: str, rollout: str) -> None:
        """Sign the next policy."""
        revision = self.record.revisions.get(str(DIGITS), 0) + 1
        self.record = self.record.updated(revisions={str(DIGITS): revision})
        ref = self.ref(version)
        self.now = Policy(
            name=DIGITS,
            revision=revision,
            poll_interval_s=60,
            rules=(
                Rule(
                    cohort="everyone",
                    condition=parse_condition({}),
                    base=ref,
                    candidate=ref if rollout else None,
                    rollout=rollout,
                    threshold_bp=10_000 if rollout else 0,
                ),
            ),
        )

    def ref(self, version: str) -> ReleaseRef:
        """A release as a policy pins it."""
        digest = hashlib.sha256(self.manifests[version]).hexdigest()
        return ReleaseRef(version=version, counter=1, manifest_sha256=digest)

    def refresh(self, _: datetime) -> bool:
        """See `TrustedRepository.refresh`."""
        return True

    def settle(self) -> None:
        """See `TrustedRepository.settle`."""

    def policy(self, _: ModelName) -> Policy | None:
        """See `TrustedRepository.policy`."""
        return self.now

    def manifest(self, _: ModelName, ref: ReleaseRef, __: datetime) -> Manifest:
        """See `TrustedRepository.manifest`."""
        data = self.manifests[ref.version]
        return Manifest(release=parse_release(data), data=data)


class Updates(RuleBasedStateMachine):
    """One device's life."""

    server: TestServer
    proxy: Proxy
    blank: Device
    manifests: Mapping[str, bytes]
    current: Updates

    def __init__(self) -> None:
        super().__init__()
        type(self).current = self
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))  # noqa: S108
        self.device = self.blank.copy(self.folder / "device")
        self.signed = Signed(self.manifests)
        self.numbers = itertools.count(1)
        self.agent: Agent | None = None
        self.verdict = "passes"
        self.on_disk = ModelState()
        self.history: set[tuple[str, UpdateState, datetime]] = set()
        self.refused: dict[str, tuple[str, int]] = {}
        self.reached: set[UpdateState] = set()

    # What happens

    @initialize()
    def install(self) -> None:
        self.signed.name("1.0.0", "")
        self.live(lambda agent: agent.poll())
        self.answer(inferences=10, errors=0)
        assert self.on_disk.update
        assert self.on_disk.update.state is UpdateState.HEALTHY

    @rule(version=st.sampled_from((*VERSIONS, HUGE)), by_rollout=st.booleans())
    def policy_names(self, version: str, *, by_rollout: bool) -> None:
        self.signed.name(version, f"ro-{next(self.numbers)}" if by_rollout else "")

    @rule(
        fault=st.sampled_from([0, 0, 0, 1, 5_000]),
        verdict=st.sampled_from(["passes"] * 2 + ["fails", "stopped"]),
    )
    def poll(self, fault: int, verdict: str) -> None:
        self.verdict = verdict
        self.proxy.heal()
        if fault:
            self.proxy.misbehave("/blobs/", drop_after(fault))
        self.live(lambda agent: agent.poll())
        self.proxy.heal()

    @rule(at=st.integers(0, 130))
    def poll_and_crash(self, at: int) -> None:
        self.verdict = "passes"
        self.live(lambda agent: agent.poll(), crash_at=at)

    @rule(
        inferences=st.integers(1, 12),
        errors=st.integers(0, 12),
        crash_at=st.sampled_from([None, None, 3, 9, 14]),
    )
    def answer(self, inferences: int, errors: int, crash_at: int | None = None) -> None:
        """An app predicts, by whatever is live."""
        slot = self.device.state.live
        if slot is None:
            return
        bad = min(errors, inferences)
        window = Window(
            started=datetime(2026, 1, 1, tzinfo=UTC),
            ended=datetime(2026, 1, 1, tzinfo=UTC),
            inferences=inferences,
            errors=bad,
            answered_by={AnsweredBy.LIVE: inferences - bad},
            fallbacks={FallbackCause.ERROR: bad} if bad else {},
        )
        report = Report(
            id=uuid.UUID(int=next(self.numbers)).hex,
            name=DIGITS,
            version=slot.version,
            rollout=slot.rollout,
            arm=Arm.NONE,
            content=window,
        )
        Spool(self.device.store / "reports").drop(report)
        self.live(lambda agent: agent._take_windows(), crash_at=crash_at)

    @rule(
        version=st.sampled_from((*VERSIONS, HUGE)),
        by_rollout=st.booleans(),
        verdict=st.sampled_from(["passes", "passes", "passes", "fails"]),
        errors=st.sampled_from([None, 0, 10]),
        crash_at=st.sampled_from([None, None, 3, 9, 14]),
    )
    def update_comes(
        self, version: str, verdict: str, errors: int | None, crash_at: int | None, *, by_rollout: bool
    ) -> None:
        """What mostly happens, one after the other; rules alone seldom come in this order."""
        self.policy_names(version, by_rollout=by_rollout)
        self.poll(0, verdict)
        if errors is not None:
            self.answer(10, errors, crash_at)

    @rule(times=st.integers(1, 4))
    def app_crashes(self, times: int) -> None:
        update = self.device.state.update
        if update is not None and update.state is UpdateState.LIVE_ON_TRIAL:
            for _ in range(times):
                self.device.slots.note_start()

    @rule(hours=st.sampled_from([0.0025, 1, 7]))
    def time_passes(self, hours: float) -> None:
        self.device.clock.advance(hours=hours)

    @rule()
    def restart(self) -> None:
        self.end()
        self.live(lambda _: None)

    # What must hold

    @invariant()
    def something_runs(self) -> None:
        state = self.device.state
        if state.live is None:
            # Only where a crash loop had nothing before it to return to; it is tried again by itself.
            update = state.update
            assert update is None or update.state is not UpdateState.LIVE_ON_TRIAL
            return
        installed = self.device.slots.installed(state.live)
        for file in files_of(installed.release, installed.variant):
            data = (installed.folder / file.path).read_bytes()
            assert hashlib.sha256(data).hexdigest() == file.sha256

    def wrote(self, after: ModelState) -> None:
        """A record was found on disk."""
        before, self.on_disk = self.on_disk, after
        if after == before:
            return
        self.moves_by_the_table(before, after)
        if after.update is not None:
            self.history.add((after.update.version, after.update.state, after.update.at))
            self.reached.add(after.update.state)

    def moves_by_the_table(self, before: ModelState, after: ModelState) -> None:
        old, new = before.update, after.update
        assert new is not None or old is None, "an update was forgotten"
        moved = new is not None and (old is None or (old.state, old.at) != (new.state, new.at))
        was, now = before.live and before.live.manifest_sha256, after.live and after.live.manifest_sha256
        if new is None or not moved:
            assert was == now, "what is live changed without a step of an update"
            return
        assert new.state in TRANSITIONS[old.state if old else None], f"{old} to {new}"
        if was != now:
            assert new.state in (UpdateState.LIVE_ON_TRIAL, UpdateState.ROLLED_BACK)
        self.keeps_refusals(before, new)

    def keeps_refusals(self, before: ModelState, new: Update) -> None:
        """Not tried again but by another rollout, or without one by a later policy."""
        revision = self.signed.record.revisions[str(DIGITS)]
        if new.state is UpdateState.OFFERED and new.manifest_sha256 in self.refused:
            rollout, last = self.refused[new.manifest_sha256]
            assert new.rollout != rollout or (not rollout and revision > last), "refused, and tried again"
        ended_for_good = (
            (new.state is UpdateState.ROLLED_BACK and before.previous is not None)
            or (new.state is UpdateState.FAILED and new.retry_at is None)
            or new.state is UpdateState.INCOMPATIBLE
        )
        if ended_for_good:
            self.refused[new.manifest_sha256] = (new.rollout, revision)

    def queued(self, report: Report) -> None:
        """A report is about to be in the spool."""
        if isinstance(report.content, Transition):
            key = (report.version, report.content.state, report.content.at)
            assert key in self.history, f"{key} is reported and was not on disk"

    # How it is driven

    def live(self, action: Any, crash_at: int | None = None) -> None:
        """Do something in the agent's process; a crash ends that, before its n-th change of the disk."""
        with watched(stop_at=crash_at):
            try:
                if self.agent is None:
                    self.agent = Agent(
                        self.device.config, clock=self.device.clock, monotonic=self.device.ticks
                    )
                action(self.agent)
            except PowerCut:
                self.crash()
            except DeviceError:
                pass

    def crash(self) -> None:
        if self.agent is not None:
            self.agent._transport.close()
            os.close(self.agent._lock)
        self.agent = None

    def end(self) -> None:
        if self.agent is not None:
            self.agent.close()
        self.agent = None

    def self_test(self) -> int:
        if self.verdict == "fails":
            raise SelfTestError("it is off by 3")
        if self.verdict == "stopped":
            raise InterruptedUpdateError("stopped")
        return 3

    def teardown(self) -> None:
        """With power, a link and time, it comes to what the policy names, or has refused it."""
        try:
            self.proxy.heal()
            self.verdict = "passes"
            self.end()
            for _ in range(3):
                self.device.clock.advance(hours=7)
                self.live(lambda agent: agent.poll())
            named = self.signed.now
            assert named is not None
            ref = named.rules[0].base
            assert ref is not None
            live = self.device.state.live
            assert (live and live.version) == ref.version or ref.manifest_sha256 in self.refused
            TOTAL.update(self.reached)
        finally:
            self.end()
            shutil.rmtree(self.folder, ignore_errors=True)


TOTAL: set[UpdateState] = set()


@pytest.fixture
def world(server: TestServer, tmp_path: Path) -> Iterator[None]:
    server.publish(TinyRelease(version="1.2.0", counter=3, seed=6, padding_bytes=10_000))
    server.publish(TinyRelease(version=HUGE, counter=4, seed=7, ram_bytes=2**50))
    Updates.server = server
    Updates.manifests = {release.version: data for release, data in packages(server)}
    with run_proxy(server.url) as proxy:
        Updates.proxy = proxy
        Updates.blank = make_device(server, tmp_path / "blank", url=proxy.url)
        yield


def packages(server: TestServer) -> Iterator[tuple[Release, bytes]]:
    for path in (server.root / "packages").glob(f"*/{MANIFEST_NAME}"):
        yield parse_release(path.read_bytes()), path.read_bytes()


@pytest.mark.usefixtures("world")
def test_an_update_moves_by_the_table_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    write, add = StateFile.write, Spool.add

    def watched_write(record: StateFile, state: ModelState) -> None:
        try:
            write(record, state)
        finally:
            with contextlib.suppress(DeviceError):
                Updates.current.wrote(record.read())

    def watched_add(spool: Spool, report: Report) -> None:
        Updates.current.queued(report)
        add(spool, report)

    monkeypatch.setattr("device_sdk.agent.TrustedRepository", lambda *_, **__: Updates.current.signed)
    monkeypatch.setattr(StateFile, "write", watched_write)
    monkeypatch.setattr(Spool, "add", watched_add)
    monkeypatch.setattr("device_sdk.updater.self_test", lambda *_, **__: Updates.current.self_test())
    TOTAL.clear()
    run_state_machine_as_test(
        Updates,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            phases=[Phase.generate],  # a life of forty steps is read quicker than made smaller
            suppress_health_check=list(HealthCheck),
            deadline=None,
        ),
    )
    assert set(UpdateState) == TOTAL, "some state was never reached"
