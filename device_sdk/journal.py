"""Moves an update through its states: durable first, then reported."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from device_sdk.records import ModelState, Update
from device_sdk.slots import ModelSlots
from device_sdk.spool import Spool
from device_sdk.state_machine import check_transition
from ota_contract.assignment import Assignment
from ota_contract.names import ModelName
from ota_contract.policy import ReleaseRef
from ota_contract.report import Report, Transition, UpdateState

__all__ = ["Journal"]


class Journal:
    """The only writer of an update's state."""

    def __init__(self, spool: Spool, clock: Callable[[], datetime]) -> None:
        """Write nothing yet."""
        self._spool = spool
        self._clock = clock

    def offer(self, slots: ModelSlots, assignment: Assignment, ref: ReleaseRef) -> None:
        """Begin an update, or take up one that was interrupted."""
        state = slots.state()
        before = state.update
        again = before is not None and before.manifest_sha256 == ref.manifest_sha256
        resumed = again and before is not None and before.state is UpdateState.DOWNLOADING
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
        if not resumed:  # a lost link is not news
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
        self._report(slots.name, update)

    def _report(self, name: ModelName, update: Update) -> None:
        self._spool.add(
            Report(
                id=uuid.uuid4().hex,
                name=name,
                version=update.version,
                rollout=update.rollout,
                arm=update.arm,
                content=Transition(state=update.state, at=update.at, reason=_line(update.reason)),
            )
        )


def _line(text: str) -> str:
    """A reason as reports carry it: one line, printable, at most 256 characters."""
    return "".join(character if character.isprintable() else " " for character in text)[:256]
