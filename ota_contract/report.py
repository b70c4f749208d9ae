"""What devices send back: transitions of an update, and windows of inference counts.

Nothing else: no inputs, no outputs, no free text longer than a reason. Every report has an id unique
on its device, so that sending it twice counts once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, TypeVar

from ota_contract.assignment import Arm
from ota_contract.device import Attributes, attributes_from, attributes_to_json
from ota_contract.documents import Reader, canonical_json, format_instant, read_document
from ota_contract.errors import FormatError, InvalidNameError
from ota_contract.names import ModelName, Version, parse_model

__all__ = [
    "FORMAT",
    "MAX_BATCH_BYTES",
    "MAX_REPORTS",
    "AnsweredBy",
    "Batch",
    "FallbackCause",
    "Report",
    "Transition",
    "UpdateState",
    "Window",
    "dump_batch",
    "parse_batch",
    "report_from",
    "report_to_json",
]

FORMAT = "ferry.reports/1"
MAX_BATCH_BYTES = 256 * 1024
MAX_REPORTS = 256

_MAX_REASON = 256

_E = TypeVar("_E", bound=Enum)


class UpdateState(Enum):
    """Where an update stands on a device; each is durable there before it is reported."""

    OFFERED = "offered"
    DOWNLOADING = "downloading"
    VERIFIED = "verified"
    STAGED = "staged"
    SELF_TESTED = "self_tested"
    LIVE_ON_TRIAL = "live_on_trial"
    HEALTHY = "healthy"
    ROLLED_BACK = "rolled_back"
    INCOMPATIBLE = "incompatible"
    FAILED = "failed"


class AnsweredBy(StrEnum):
    """Which link of the fallback chain answered a prediction."""

    LIVE = "live"
    PREVIOUS = "previous"
    CLOUD = "cloud"


class FallbackCause(Enum):
    """Why a prediction was not answered by the live release."""

    MISSING = "missing"
    ERROR = "error"
    INVALID_OUTPUT = "invalid_output"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """An update reached a state."""

    state: UpdateState
    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Counts of one release's predictions over a span of time."""

    started: datetime
    ended: datetime
    inferences: int
    """Attempts of the release itself to answer, failed ones included."""
    errors: int
    """Attempts that raised or gave an invalid output."""
    answered_by: Mapping[AnsweredBy, int] = field(default_factory=dict)
    fallbacks: Mapping[FallbackCause, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report about one release on one device."""

    id: str
    """Unique on the device."""
    name: ModelName
    version: str
    content: Transition | Window
    rollout: str = ""
    arm: Arm = Arm.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one request carries: who the device is, what it runs, and its unsent reports."""

    device: Attributes
    live: Mapping[ModelName, str]
    """Version live per model."""
    reports: tuple[Report, ...]


def parse_batch(data: bytes) -> Batch:
    """Parse a batch from untrusted bytes.

    Raises:
        UnknownFormatError: A newer device.
        FormatError: Malformed or out of bounds.
    """
    reader = read_document(data, what="reports", format_=FORMAT, max_bytes=MAX_BATCH_BYTES)
    try:
        return Batch(
            device=attributes_from(reader.object("device")),
            live={
                parse_model(name): str(Version.parse(value.text("value")))
                for name, value in reader.entries("live", max_items=64).items()
            },
            reports=tuple(map(report_from, reader.objects("reports", max_items=MAX_REPORTS))),
        )
    except InvalidNameError as error:
        raise FormatError(f"reports: {error}") from error


def dump_batch(batch: Batch) -> bytes:
    """Serialise a batch; `parse_batch` gives it back (without the device's tags)."""
    return canonical_json(
        {
            "format": FORMAT,
            "device": attributes_to_json(batch.device),
            "live": {str(name): version for name, version in batch.live.items()},
            "reports": [report_to_json(report) for report in batch.reports],
        }
    )


def report_to_json(report: Report) -> dict[str, Any]:
    """One report as JSON, also the form the device's durable queue keeps."""
    common = {
        "id": report.id,
        "model": str(report.name),
        "version": report.version,
        "rollout": report.rollout,
        "arm": report.arm.value,
    }
    content = report.content
    if isinstance(content, Transition):
        return {
            **common,
            "transition": {
                "state": content.state.value,
                "at": format_instant(content.at),
                "reason": content.reason[:_MAX_REASON],
            },
        }
    return {
        **common,
        "window": {
            "started": format_instant(content.started),
            "ended": format_instant(content.ended),
            "inferences": content.inferences,
            "errors": content.errors,
            "answered_by": {key.value: count for key, count in content.answered_by.items()},
            "fallbacks": {key.value: count for key, count in content.fallbacks.items()},
        },
    }


def report_from(reader: Reader) -> Report:
    """The inverse of `report_to_json`.

    Raises:
        FormatError: Malformed or out of bounds.
        InvalidNameError: The model or version is not well formed.
    """
    content = reader.optional("transition", _transition_from) or reader.optional("window", _window_from)
    if content is None:
        raise FormatError(f"{reader.where}: neither a transition nor a window")
    return Report(
        id=reader.text("id", max_length=64),
        name=parse_model(reader.text("model", max_length=129)),
        version=str(Version.parse(reader.text("version"))),
        content=content,
        rollout=reader.text("rollout", max_length=64, default=""),
        arm=reader.member("arm", Arm, default=Arm.NONE),
    )


def _transition_from(reader: Reader) -> Transition:
    return Transition(
        state=reader.member("state", UpdateState),
        at=reader.instant("at"),
        reason=reader.text("reason", max_length=_MAX_REASON, default=""),
    )


def _window_from(reader: Reader) -> Window:
    inferences = reader.integer("inferences", high=10**12)
    return Window(
        started=reader.instant("started"),
        ended=reader.instant("ended"),
        inferences=inferences,
        errors=reader.integer("errors", high=inferences),
        answered_by=_counts(reader, "answered_by", AnsweredBy),
        fallbacks=_counts(reader, "fallbacks", FallbackCause),
    )


def _counts(reader: Reader, key: str, kind: type[_E]) -> dict[_E, int]:
    # A cause this server does not know yet is dropped, like any unknown key.
    known = {member.value: member for member in kind}
    return {
        known[name]: value.integer("value", high=10**12)
        for name, value in reader.entries(key, max_items=32).items()
        if name in known
    }
