"""A rollout as the JSON document the database keeps; nobody else reads it."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from ota_contract.documents import Reader, reader_of
from ota_contract.names import parse_model
from ota_contract.policy import ReleaseRef, Strategy, Trial
from ota_server.domain.rollout import ArmCounts, Counts, Guard, Rollout, RolloutState, Stage, StageState

__all__ = ["rollout_from_json", "rollout_to_json"]

_MAX_WHY = 2000
_ARMS = ("candidate", "control")


def rollout_to_json(rollout: Rollout) -> dict[str, Any]:
    """To the document."""
    return {
        "id": rollout.id,
        "model": str(rollout.name),
        "release": _plain(rollout.release),
        "base": rollout.base and _plain(rollout.base),
        "cohort": rollout.cohort,
        "strategy": rollout.strategy.value,
        "stages": [
            {**_plain(stage), "state": stage.state.value, "began": _instant_to_json(stage.began)}
            for stage in rollout.stages
        ],
        "guard": _plain(rollout.guard),
        "trial": _plain(rollout.trial),
        "auto_advance": rollout.auto_advance,
        "poll_interval_s": rollout.poll_interval_s,
        "requires_approval": rollout.requires_approval,
        "created": _instant_to_json(rollout.created),
        "created_by": rollout.created_by,
        "approved_by": rollout.approved_by,
        "state": rollout.state.value,
        "stage": rollout.stage,
        "percent_bp": rollout.percent_bp,
        "why": rollout.why[:_MAX_WHY],
        "started": _instant_to_json(rollout.started),
        "turned_back": _instant_to_json(rollout.turned_back),
        "returns": rollout.returns,
        "ended": _instant_to_json(rollout.ended),
        "counts": {
            **_plain(rollout.counts),
            **{arm: _plain(getattr(rollout.counts, arm)) for arm in _ARMS},
        },
    }


def rollout_from_json(document: object) -> Rollout:
    """From the document.

    Raises:
        FormatError: The database was changed by something else.
    """
    reader = reader_of(document, what="stored rollout")
    return Rollout(
        id=reader.text("id"),
        name=parse_model(reader.text("model")),
        release=_ref(reader.object("release")),
        base=reader.optional("base", _ref),
        cohort=reader.text("cohort"),
        strategy=reader.member("strategy", Strategy),
        stages=tuple(map(_stage, reader.objects("stages", max_items=64))),
        guard=Guard(**_integers(reader.object("guard"), Guard)),
        trial=Trial(**_integers(reader.object("trial"), Trial)),
        auto_advance=reader.boolean("auto_advance"),
        poll_interval_s=reader.integer("poll_interval_s") if reader.has("poll_interval_s") else None,
        requires_approval=reader.boolean("requires_approval"),
        created=_instant(reader, "created") or datetime.min.replace(tzinfo=UTC),
        created_by=reader.text("created_by"),
        approved_by=reader.text("approved_by", default=""),
        state=reader.member("state", RolloutState),
        stage=reader.integer("stage"),
        percent_bp=reader.integer("percent_bp"),
        why=reader.text("why", max_length=_MAX_WHY),
        started=_instant(reader, "started"),
        turned_back=_instant(reader, "turned_back"),
        returns=reader.boolean("returns"),
        ended=_instant(reader, "ended"),
        counts=_counts(reader.object("counts")),
    )


def _plain(value: Any) -> dict[str, Any]:  # noqa: ANN401 - a dataclass of plain fields
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _integers(reader: Reader, kind: type[Any], *, leave: tuple[str, ...] = ()) -> dict[str, int]:
    return {field.name: reader.integer(field.name) for field in fields(kind) if field.name not in leave}


def _ref(reader: Reader) -> ReleaseRef:
    return ReleaseRef(
        version=reader.text("version"),
        counter=reader.integer("counter"),
        manifest_sha256=reader.sha256("manifest_sha256"),
    )


def _stage(reader: Reader) -> Stage:
    return Stage(
        **_integers(reader, Stage, leave=("state", "began")),
        state=reader.member("state", StageState),
        began=_instant(reader, "began"),
    )


def _counts(reader: Reader) -> Counts:
    arms = {arm: ArmCounts(**_integers(reader.object(arm), ArmCounts)) for arm in _ARMS}
    return Counts(**_integers(reader, Counts, leave=_ARMS), **arms)  # type: ignore[arg-type]


def _instant(reader: Reader, key: str) -> datetime | None:
    return datetime.fromisoformat(reader.text(key, max_length=40)) if reader.has(key) else None


def _instant_to_json(instant: datetime | None) -> str | None:
    # With its fraction: soak times of a demonstration are shorter than a second's rounding forgives.
    return None if instant is None else instant.isoformat()
