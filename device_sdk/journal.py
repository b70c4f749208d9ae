"""Moves an update through its states: durable first, then reported."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from device_sdk.errors import StoreError
from device_sdk.records import ModelState, Update
from device_sdk.slots import ModelSlots
from device_sdk.spool import Spool
from device_sdk.state_machine import check_transition
from ota_contract.assignment import Assignment
from ota_contract.documents import format_instant
from ota_contract.names import ModelName
from ota_contract.policy import ReleaseRef
from ota_contract.report import Report, Transition, UpdateState

__all__ = ["Journal"]

_LOG = logging.getLogger("ferry")
_WAITING = (UpdateState.OFFERED, UpdateState.DOWNLOADING)
"""States an update may enter time and again while its link is bad."""


class Journal:
    """The only writer of an update's state."""

    def __init__(self, spool: Spool, clock: Callable[[], datetime]) -> None:
        """Write nothing yet."""
        self._spool = spool
        self._clock = clock
        self._owed: list[Report] = []
        self._told: dict[ModelName, set[str]] = {}

    def offer(self, slots: ModelSlots, assignment: Assignment, ref: ReleaseRef) -> None:
        """Begin an update, or take up one that was interrupted."""
        state = slots.state()
        before = state.update
        check_transition(None if before is None else before.state, UpdateState.OFFERED)
        again = before is not None and before.manifest_sha256 == ref.manifest_sha256
        resumed = again and before is not None and before.state in _WAITING
        update = Update(
            version=ref.version,
            manifest_sha256=ref.manifest_sha256,
            state=UpdateState.OFFERED,
            reason=assignment.reason,
            at=self._clock(),
            rollout=assignment.rollout,
            arm=assignment.arm,
            trial=assignment.trial,
            attempts=before.attempts if again and before is not None else 0,
        )
        slots.write_state(replace(state, update=update))
        if not resumed:
            self._told[slots.name] = set()
        self._report(slots.name, update)

    def advance(
        self,
        slots: ModelSlots,
        state: UpdateState,
        reason: str,
        *,
        slots_after: ModelState | None = None,
        attempts: int | None = None,
        retry_at: datetime | None = None,
    ) -> None:
        """Enter a state, together with what it does to the slots, in one durable write; then report it."""
        current = slots_after if slots_after is not None else slots.state()
        before = current.update
        if before is None:
            return
        check_transition(before.state, state)
        update = replace(
            before,
            state=state,
            reason=reason,
            at=self._clock(),
            attempts=before.attempts if attempts is None else attempts,
            retry_at=retry_at,
        )
        slots.write_state(replace(current, update=update))
        _LOG.info("%s %s: %s (%s)", slots.name, update.version, state.value.replace("_", " "), _line(reason))
        self._report(slots.name, update)

    def repeat(self, slots: ModelSlots) -> None:
        """Report the state an update is in once more: a crash may have come between state and report."""
        update = slots.state().update
        if update is not None:
            self._report(slots.name, update)

    def settle(self) -> None:
        """Queue what could not be queued when it happened.

        Raises:
            StoreError: It still cannot be.
        """
        while self._owed:
            self._spool.add(self._owed[0])
            del self._owed[0]

    def _report(self, name: ModelName, update: Update) -> None:
        told = self._told.setdefault(name, set())
        if update.state in _WAITING and update.state.value in told:
            return  # begun again after a lost link: no news
        told.add(update.state.value)
        # The same transition has the same id whenever it is told, and counts once.
        at = format_instant(update.at)  # as state.json will give it back
        what = (str(name), update.manifest_sha256, update.rollout, update.state.value, at)
        self._owed.append(
            Report(
                id=hashlib.sha256("\n".join(what).encode()).hexdigest()[:32],
                name=name,
                version=update.version,
                rollout=update.rollout,
                arm=update.arm,
                content=Transition(state=update.state, at=update.at, reason=_line(update.reason)),
            )
        )
        # The state is durable and stands, whether or not there is room to say so.
        with contextlib.suppress(StoreError):
            self.settle()


def _line(text: str) -> str:
    """A reason as reports carry it: one line, printable, at most 256 characters."""
    return "".join(character if character.isprintable() else " " for character in text)[:256]
