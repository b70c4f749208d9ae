"""The durable record of one model on this device, as values and as JSON.

`device_sdk.slots` writes it; nobody else parses it. It comes from this device's own disk and is read
with the same bounds as anything else: disks lie, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ota_contract.assignment import Arm
from ota_contract.documents import Reader, canonical_json, format_instant, read_document
from ota_contract.names import Version
from ota_contract.policy import STANDARD_TRIAL, Trial
from ota_contract.report import UpdateState

__all__ = [
    "MAX_STATE_BYTES",
    "ModelState",
    "Refusal",
    "Slot",
    "Update",
    "dump_state",
    "parse_state",
    "printable",
]

MAX_STATE_BYTES = 64 * 1024

_FORMAT = "ferry.device-state/1"
_MAX_REASON = 1000
_MAX_REFUSALS = 32
_MAX_REFUSAL_REASON = 200
"""So that the most refusals in the widest script stay well below `MAX_STATE_BYTES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A release held by the device, and the variant of it."""

    version: str
    counter: int
    manifest_sha256: str
    variant_id: str
    rollout: str = ""
    """The rollout by which it came, or in which it is the control."""
    arm: Arm = Arm.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """The latest update, running or ended."""

    version: str
    manifest_sha256: str
    state: UpdateState
    reason: str
    at: datetime
    rollout: str = ""
    arm: Arm = Arm.NONE
    trial: Trial = STANDARD_TRIAL
    attempts: int = 0
    """Failed attempts in a row; the next one waits longer."""
    retry_at: datetime | None = None
    inferences: int = 0
    """Real inferences of the release on trial."""
    errors: int = 0
    counted: str = ""
    """Id of the last window of inferences that is in these numbers: a crash must not count it twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A release this device tried and left; not tried again until the policy names it anew."""

    version: str
    manifest_sha256: str
    rollout: str
    revision: int
    reason: str
    ended: UpdateState | None = None
    """How its update ended; None in records that are older than this field."""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """The slots of one model and its update."""

    live: Slot | None = None
    candidate: Slot | None = None
    previous: Slot | None = None
    update: Update | None = None
    refusals: tuple[Refusal, ...] = ()


def parse_state(data: bytes, *, max_bytes: int = MAX_STATE_BYTES) -> ModelState:
    """Parse a record.

    Raises:
        FormatError: It is damaged.
        InvalidNameError: So is the version in a slot.
    """
    reader = read_document(data, what="device state", format_=_FORMAT, max_bytes=max_bytes)
    return ModelState(
        live=reader.optional("live", _slot_from),
        candidate=reader.optional("candidate", _slot_from),
        previous=reader.optional("previous", _slot_from),
        update=reader.optional("update", _update_from),
        refusals=tuple(map(_refusal_from, reader.objects("refusals", max_items=64))),
    )


def dump_state(state: ModelState) -> bytes:
    """Serialise a record; `parse_state` gives it back, with reasons cut to one line of bounded length.

    Raises:
        FormatError: It could not be read again. Writing it would take the running release from the app.
    """
    data = canonical_json(
        {
            "format": _FORMAT,
            "live": state.live and _slot_to_json(state.live),
            "candidate": state.candidate and _slot_to_json(state.candidate),
            "previous": state.previous and _slot_to_json(state.previous),
            "update": state.update and _update_to_json(state.update),
            "refusals": [_refusal_to_json(refusal) for refusal in state.refusals[-_MAX_REFUSALS:]],
        }
    )
    parse_state(data)
    return data


def _slot_from(reader: Reader) -> Slot:
    return Slot(
        version=str(Version.parse(reader.text("version"))),  # part of a folder's name
        counter=reader.integer("counter"),
        manifest_sha256=reader.sha256("manifest_sha256"),
        variant_id=reader.text("variant_id"),
        rollout=reader.text("rollout", default=""),
        arm=reader.member("arm", Arm, default=Arm.NONE),
    )


def _slot_to_json(slot: Slot) -> Mapping[str, Any]:
    return {
        "version": slot.version,
        "counter": slot.counter,
        "manifest_sha256": slot.manifest_sha256,
        "variant_id": slot.variant_id,
        "rollout": slot.rollout,
        "arm": slot.arm.value,
    }


def _update_from(reader: Reader) -> Update:
    trial = reader.object("trial")
    return Update(
        version=reader.text("version"),
        manifest_sha256=reader.sha256("manifest_sha256"),
        state=reader.member("state", UpdateState),
        reason=reader.text("reason", max_length=1024, default=""),
        at=reader.instant("at"),
        rollout=reader.text("rollout", default=""),
        arm=reader.member("arm", Arm, default=Arm.NONE),
        trial=Trial(
            inferences=trial.integer("inferences"),
            max_error_ppm=trial.integer("max_error_ppm"),
            max_starts=trial.integer("max_starts"),
        ),
        attempts=reader.integer("attempts", default=0),
        retry_at=reader.instant("retry_at") if reader.has("retry_at") else None,
        inferences=reader.integer("inferences", default=0),
        errors=reader.integer("errors", default=0),
        counted=reader.text("counted", default=""),
    )


def _update_to_json(update: Update) -> Mapping[str, Any]:
    return {
        "version": update.version,
        "manifest_sha256": update.manifest_sha256,
        "state": update.state.value,
        "reason": printable(update.reason, _MAX_REASON),
        "at": format_instant(update.at),
        "rollout": update.rollout,
        "arm": update.arm.value,
        "trial": {
            "inferences": update.trial.inferences,
            "max_error_ppm": update.trial.max_error_ppm,
            "max_starts": update.trial.max_starts,
        },
        "attempts": update.attempts,
        "retry_at": update.retry_at and format_instant(update.retry_at),
        "inferences": update.inferences,
        "errors": update.errors,
        "counted": update.counted,
    }


def _refusal_from(reader: Reader) -> Refusal:
    return Refusal(
        version=reader.text("version"),
        manifest_sha256=reader.sha256("manifest_sha256"),
        rollout=reader.text("rollout", default=""),
        revision=reader.integer("revision"),
        reason=reader.text("reason", max_length=1024, default=""),
        ended=reader.member("ended", UpdateState) if reader.has("ended") else None,
        at=reader.instant("at") if reader.has("at") else None,
    )


def _refusal_to_json(refusal: Refusal) -> Mapping[str, Any]:
    return {
        "version": refusal.version,
        "manifest_sha256": refusal.manifest_sha256,
        "rollout": refusal.rollout,
        "revision": refusal.revision,
        # Of a release with many variants, why none fits is longer than any bound on it.
        "reason": printable(refusal.reason, _MAX_REFUSAL_REASON),
        "ended": refusal.ended and refusal.ended.value,
        "at": refusal.at and format_instant(refusal.at),
    }


def printable(text: str, most: int) -> str:
    """One line of printable characters: errors of a runtime may hold anything."""
    return "".join(character if character.isprintable() else " " for character in text[:most])
