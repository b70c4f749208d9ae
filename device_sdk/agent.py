"""The update agent: polls, lets every model converge, judges trials, and reports.

`step()` does what is due and says how long nothing will be; whoever owns the thread sleeps. One agent runs
per store, held by a lock that dies with its process.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Self

from device_sdk.activity import Activity
from device_sdk.config import Config
from device_sdk.durable import open_private, store_errors
from device_sdk.enrolment import Enrolment
from device_sdk.errors import (
    DeviceError,
    DigestMismatchError,
    NetworkError,
    StoreError,
    StoreLockedError,
    UntrustedMetadataError,
)
from device_sdk.journal import Journal
from device_sdk.records import printable
from device_sdk.reporter import Reporter
from device_sdk.slots import Store
from device_sdk.spool import Spool
from device_sdk.transport import Transport
from device_sdk.trust import TrustedRepository
from device_sdk.updater import ModelUpdater
from ota_contract.assignment import Arm
from ota_contract.errors import UnknownFormatError
from ota_contract.names import ModelName
from ota_contract.policy import Policy
from ota_contract.report import Report, UpdateState, Window

__all__ = ["Agent"]

_LOG = logging.getLogger("ferry")

_DEFAULT_POLL_S = 300.0
_JITTER = 0.2
_LONGEST_BACKOFF = 16.0
_MAX_MESSAGE = 2000
_TRIAL_CHECK_S = 0.5
"""How often dropped windows are looked for: a trial ends soon after its evidence is in."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Agent:
    """The agent of one device."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], datetime] = _utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the store's lock and finish what a former process left; send nothing yet.

        Raises:
            StoreLockedError: Another process runs this store's agent.
            StoreError: The store cannot be used.
            ConfigError: The trust root cannot be read.
        """
        self._config = config
        self._clock = clock
        self._monotonic = monotonic
        self._store = Store(config.store)
        self._lock = _lock(config)
        try:
            self._build()
        except BaseException:
            os.close(self._lock)  # whoever mends the cause can start an agent in this very process
            raise

    def _build(self) -> None:
        config, monotonic = self._config, self._monotonic
        self._transport = Transport(tls=config.tls)
        self._spool = Spool(config.store / "reports")
        self._trust = TrustedRepository(
            config.store / "trust",
            trust_root=config.trust_root,
            metadata_url=config.metadata_url,
            targets_url=config.targets_url,
            transport=self._transport,
        )
        enrolment = Enrolment(config, self._transport)
        self._reporter = Reporter(config, self._transport, self._spool, enrolment)
        self._journal = Journal(self._spool, self._clock)
        self._updaters = {
            name: ModelUpdater(
                name, config, self._store, self._trust, self._transport, self._journal, self._clock
            )
            for name in config.models
        }
        self._activity = Activity(config.store)
        self._interval_s = self._known_interval_s()
        self._failures = 0
        self._logged = ""
        self._update_failed = False
        self._report_not_before = monotonic()
        # The first report waits for the first poll: it would be as much of a herd.
        self._next_poll = self._next_report = monotonic() + self._first_poll_s()
        self._resume()

    def step(self) -> float:
        """Do what is due; returns the seconds until something is.

        Failures are kept for `status` and never raised: whatever happens to an update, the app goes on.
        """
        try:
            self._take_windows()
        except DeviceError as error:  # a full disk, say: polling may be what frees it
            self._note_failure(error)
        if self._monotonic() >= self._next_poll:
            self.poll()
        if self._monotonic() >= self._next_report:
            self._report()
        now = self._monotonic()
        return max(0.0, min(self._next_poll - now, self._next_report - now, _TRIAL_CHECK_S))

    def poll_once(self) -> tuple[str, bool]:
        """Ask the server now, and act; returns a sentence on each model, and whether anything failed."""
        failures = self._failures
        sentences = self.poll()
        return sentences, self._failures > failures or self._update_failed

    def poll(self) -> str:
        """Ask the server now, and act; returns one sentence on each model."""
        wait = self._interval_s
        not_before = 0.0
        queued = self._spool.waiting()
        try:
            sentences = self._poll()
            self._failures = 0
            self._logged = ""
            self._activity.succeeded(sentences)
        except DeviceError as error:
            self._failures += 1
            wait = self._interval_s * min(_LONGEST_BACKOFF, 2.0 ** min(self._failures - 1, 16))
            not_before = getattr(error, "retry_after_s", None) or 0.0
            sentences = str(error)
            self._note_failure(error)
        jitter = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - spreads load, guards nothing
        # Told when to come back, devices must not come earlier, nor all at that moment.
        self._next_poll = self._monotonic() + max(wait * jitter, not_before * (1 + abs(jitter - 1)))
        if self._spool.waiting() > queued:  # an update moved on: say so, unless told to be quiet
            self._next_report = max(self._report_not_before, self._monotonic())
        return sentences

    def report_now(self) -> None:
        """Take what was dropped and send everything queued.

        Raises:
            NetworkError: The server does not answer; the queue is unchanged.
            EnrolmentError: The server does not know this device; the queue is unchanged.
        """
        self._take_windows()
        live = self._live()
        self._reporter.send(live)
        while self._spool.waiting():
            if self._reporter.send(live) == 0:
                break

    def stop(self) -> None:
        """Let a `step` under way in another thread end soon; a transfer goes on from there next time."""
        self._transport.abort()

    def close(self) -> None:
        """Give up the lock and the connections."""
        self._activity.flush()
        self._transport.close()
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _poll(self) -> str:
        changed = self._trust.refresh(self._clock())
        self._activity.polled(changed=changed)
        attributes = self._reporter.attributes()
        sentences: list[str] = []
        policies: list[tuple[ModelName, Policy]] = []
        failure: DeviceError | UnknownFormatError | None = None
        # One model's failure must not keep the others back. A policy of an unknown format means: do
        # nothing until this software knows it.
        for name in self._updaters:
            try:
                policy = self._trust.policy(name)
            except (DeviceError, UnknownFormatError) as error:
                self._note_failure(error)
                failure = failure or error
                continue
            if policy is None:
                sentences.append(f"{name}: the server has no policy for it yet")
            else:
                policies.append((name, policy))
        if failure is None:
            self._trust.settle()
        for name, policy in policies:
            self._interval_s = self._config.agent.poll_interval_s or policy.poll_interval_s
            try:
                sentences.append(f"{name}: {self._updaters[name].converge(policy, attributes)}")
            except (DeviceError, UnknownFormatError) as error:
                self._note_failure(error)
                failure = failure or error
        self._update_failed = failure is not None
        if failure is not None:
            if isinstance(failure, NetworkError):
                raise failure
            # The update itself waits by its own clock; the link is fine, and polling goes on as ever.
            sentences.append(str(failure))
        else:
            self._store.collect_garbage(self._updaters)
        return "; ".join(sentences)

    def _note_failure(self, error: Exception) -> None:
        # It may quote what a server or a middlebox said: a log is read on a terminal, line by line.
        message = printable(str(error), _MAX_MESSAGE)
        if message != self._logged:  # a link that stays down is told once
            self._logged = message
            _LOG.warning("%s", message)
        self._activity.failed(
            message,
            blob_refused=isinstance(error, DigestMismatchError),
            metadata_refused=isinstance(error, UntrustedMetadataError),
        )

    def _resume(self) -> None:
        """Tell again where each update stands, and end a crash loop before anything is loaded."""
        for name, updater in self._updaters.items():
            try:
                mended = updater.slots.record.mend()
                if mended:
                    self._note_failure(DeviceError(f"{name}: {mended}"))
                self._journal.repeat(updater.slots)
                updater.resume()
            except DeviceError as error:  # the app goes on, by what can be read, or by the cloud
                self._note_failure(DeviceError(f"{name}: {error}"))

    def _take_windows(self) -> None:
        self._journal.settle()
        for path, report in self._spool.incoming():
            updater = self._updaters.get(report.name)
            window = report.content
            if updater is not None and isinstance(window, Window):
                self._tally(updater, report, window)
            self._spool.accept(path)
        for updater in self._updaters.values():
            updater.judge_trial()

    @staticmethod
    def _tally(updater: ModelUpdater, report: Report, window: Window) -> None:
        state = updater.slots.state()
        update = state.update
        if update is None or update.state is not UpdateState.LIVE_ON_TRIAL:
            return
        if update.version != report.version or update.counted == report.id:
            return  # of another release, or counted before a crash came between this and its acceptance
        update = replace(
            update,
            inferences=update.inferences + window.inferences,
            errors=update.errors + window.errors,
            counted=report.id,
        )
        updater.slots.write_state(replace(state, update=update))

    def _report(self) -> None:
        wait = self._config.agent.report_interval_s
        try:
            wait = self._report_interval_s()
            self.report_now()
        except DeviceError as error:
            self._activity.failed(str(error))
            wait = max(wait, getattr(error, "retry_after_s", None) or 0.0)
            self._report_not_before = self._monotonic() + wait
        self._next_report = self._monotonic() + wait

    def _known_interval_s(self) -> float:
        """The poll interval by configuration, else by the policies last trusted, else the default."""
        if self._config.agent.poll_interval_s:
            return self._config.agent.poll_interval_s
        known = []
        for name in self._config.models:
            try:
                policy = self._trust.policy(name)
            except (DeviceError, UnknownFormatError):
                continue
            if policy is not None:
                known.append(float(policy.poll_interval_s))
        return min(known, default=_DEFAULT_POLL_S)

    def _report_interval_s(self) -> float:
        """Often while this device's word decides a rollout, seldom otherwise."""
        agent = self._config.agent
        for updater in self._updaters.values():
            live = updater.slots.state().live
            if live is not None and live.arm is not Arm.NONE:
                return min(agent.report_interval_s, agent.rollout_report_interval_s)
        return agent.report_interval_s

    def _live(self) -> dict[ModelName, str]:
        versions: dict[ModelName, str] = {}
        for name, updater in self._updaters.items():
            with contextlib.suppress(StoreError):  # what cannot be read does not run, either
                live = updater.slots.state().live
                if live is not None:
                    versions[name] = live.version
        return versions

    def _first_poll_s(self) -> float:
        """Where in the interval this device polls: a fleet switched on at once must not call at once.

        A device without a live release does not wait: nothing works on it yet.
        """
        if not self._live():
            return 0.0
        digest = hashlib.sha256(self._config.device.device_id.encode()).digest()
        return self._interval_s * int.from_bytes(digest[:4]) / 2**32


def _lock(config: Config) -> int:
    path = config.store / "agent.lock"
    with store_errors(path):
        descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StoreLockedError(f"another process runs the agent of {config.store}") from error
    return descriptor
