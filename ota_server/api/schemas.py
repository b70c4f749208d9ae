"""The API's documents, as OpenAPI describes them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ota_contract.bucketing import BUCKETS
from ota_contract.manifest import MILLION
from ota_contract.names import ModelName
from ota_contract.policy import STANDARD_TRIAL, Strategy
from ota_server.domain.release import ReleaseRecord
from ota_server.domain.rollout import Counts, Guard, Rollout, RolloutState, Stage, StageState
from ota_server.operations.cohorts import Preview
from ota_server.operations.ports import DeviceRecord

__all__ = [
    "CohortDocument",
    "CohortList",
    "ConditionBody",
    "DeviceDocument",
    "DeviceList",
    "EnrolmentDocument",
    "ModelDocument",
    "ModelList",
    "PercentBody",
    "PreviewDocument",
    "Problem",
    "PublishBody",
    "ReceiptDocument",
    "ReleaseDetail",
    "ReleaseDocument",
    "ReleaseList",
    "RolloutBody",
    "RolloutDocument",
    "RolloutList",
    "TagsBody",
    "UploadDocument",
    "WhoAmI",
    "device_document",
    "preview_document",
    "release_document",
    "rollout_document",
]

_GUARD = Guard()
_MAX_SOAK_S = 365 * 24 * 3600
Percent = Annotated[int, Field(ge=1, le=BUCKETS, description="Basis points: 500 are 5 %.")]
Ppm = Annotated[int, Field(ge=0, le=MILLION, description="Parts per million.")]


class _Body(BaseModel):
    """A request: an unknown key is a typing error, and refused."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str


class WhoAmI(BaseModel):
    """The caller."""

    name: str
    role: str
    publisher: str


class UploadDocument(BaseModel):
    """Where an upload stands."""

    complete: bool
    offset: int


class PublishBody(_Body):
    """A release to publish: both documents as the exact texts that were hashed and signed."""

    manifest: str = Field(max_length=512 * 1024)
    metadata: str = Field(max_length=4 * 1024 * 1024)


class ModelDocument(BaseModel):
    """A model with its newest release."""

    model: str
    latest: str
    releases: int


class ModelList(BaseModel):
    """Every model."""

    models: list[ModelDocument]


class ReleaseDocument(BaseModel):
    """A published release."""

    model: str
    version: str
    counter: int
    floor: int
    manifest_sha256: str
    published: datetime
    withdrawn: bool


class ReleaseDetail(ReleaseDocument):
    """A release with its manifest."""

    manifest: dict[str, Any]


class ReleaseList(BaseModel):
    """Releases, the newest first."""

    releases: list[ReleaseDocument]


class ConditionBody(_Body):
    """A rule in GrowthBook's condition language."""

    condition: dict[str, Any] = Field(examples=[{"region": "eu", "ram_bytes": {"$gte": 1_000_000_000}}])


class CohortDocument(BaseModel):
    """A cohort."""

    name: str
    condition: dict[str, Any]


class CohortList(BaseModel):
    """Every cohort."""

    cohorts: list[CohortDocument]


class PreviewDocument(BaseModel):
    """Whom a rule selects among known devices; `devices` holds the first few."""

    matching: int
    total: int
    devices: list[str]


class EnrolmentDocument(BaseModel):
    """The device's own token, seen only here."""

    token: str


class ReceiptDocument(BaseModel):
    """What became of a batch of reports."""

    accepted: int
    tags: list[str]


class TagsBody(_Body):
    """Tags that replace a device's."""

    tags: list[str] = Field(max_length=64)


class DeviceDocument(BaseModel):
    """A device."""

    id: str
    hardware: str
    os: str
    arch: str
    ram_bytes: int
    region: str
    runtimes: dict[str, str]
    extra: dict[str, str | int | float | bool]
    tags: list[str]
    live: dict[str, str]
    enrolled: datetime
    last_seen: datetime | None
    history: list[dict[str, Any]] = []


class DeviceList(BaseModel):
    """Devices by id; `next` is the `after` of the following page."""

    devices: list[DeviceDocument]
    next: str | None


class StageBody(_Body):
    """One widening."""

    percent_bp: Percent
    soak_s: int = Field(default=0, ge=0, le=_MAX_SOAK_S)
    min_healthy: int = Field(default=1, ge=0, le=10**9)
    min_inferences: int = Field(default=0, ge=0, le=10**12)


class TrialBody(_Body):
    """What a device asks of a fresh release before it calls it healthy."""

    inferences: int = Field(default=STANDARD_TRIAL.inferences, ge=0, le=10**9)
    max_error_ppm: Ppm = STANDARD_TRIAL.max_error_ppm
    max_starts: int = Field(default=STANDARD_TRIAL.max_starts, ge=1, le=100)


class RolloutBody(_Body):
    """A rollout to draft."""

    model: str = Field(examples=["vision/digits"])
    version: str = Field(examples=["1.1.0"])
    cohort: str = "everyone"
    strategy: Literal["recreate", "canary", "blue_green", "shadow", "ab_test"] = "canary"
    stages: list[StageBody] = Field(default=[], max_length=64)
    max_error_ppm: Ppm = _GUARD.max_error_ppm
    max_failed_ppm: Ppm = _GUARD.max_failed_ppm
    auto_advance: bool = True
    trial: TrialBody = TrialBody()
    poll_interval_s: int | None = Field(default=None, ge=1, le=7 * 24 * 3600)
    requires_approval: bool = False

    def strategy_member(self) -> Strategy:
        """The strategy as the domain knows it."""
        return Strategy(self.strategy)

    def stage_values(self) -> tuple[Stage, ...]:
        """The stages as the domain knows them."""
        return tuple(Stage(**stage.model_dump()) for stage in self.stages)


class PercentBody(_Body):
    """A new percentage."""

    percent_bp: Percent


class StageDocument(BaseModel):
    """One stage and where it stands."""

    percent_bp: int
    soak_s: int
    min_healthy: int
    min_inferences: int
    state: StageState
    began: datetime | None


class ArmDocument(BaseModel):
    """Predictions of one arm."""

    inferences: int
    errors: int


class CountsDocument(BaseModel):
    """What the fleet says."""

    devices_total: int
    devices_targeted: int
    devices_exposed: int
    devices_healthy: int
    devices_failed: int
    devices_returning: int
    devices_stranded: int
    candidate: ArmDocument
    control: ArmDocument


class RolloutDocument(BaseModel):
    """A rollout; `why` says what it waits for, or what ended it."""

    id: str
    model: str
    version: str
    base_version: str | None
    cohort: str
    strategy: str
    state: RolloutState
    why: str
    percent_bp: int
    stage: int
    stages: list[StageDocument]
    max_error_ppm: int
    max_failed_ppm: int
    auto_advance: bool
    requires_approval: bool
    approved_by: str
    created: datetime
    created_by: str
    started: datetime | None
    ended: datetime | None
    counts: CountsDocument


class RolloutList(BaseModel):
    """Rollouts, the newest first."""

    rollouts: list[RolloutDocument]


def release_document(record: ReleaseRecord) -> ReleaseDocument:
    """A release for the API."""
    return ReleaseDocument(
        model=str(record.name),
        version=record.version,
        counter=record.counter,
        floor=record.floor,
        manifest_sha256=record.manifest_sha256,
        published=record.published,
        withdrawn=record.withdrawn,
    )


def preview_document(preview: Preview) -> PreviewDocument:
    """A preview for the API."""
    return PreviewDocument(matching=preview.matching, total=preview.total, devices=list(preview.devices))


def device_document(record: DeviceRecord, history: list[dict[str, Any]] | None = None) -> DeviceDocument:
    """A device for the API."""
    attributes = record.attributes
    return DeviceDocument(
        id=attributes.device_id,
        hardware=attributes.hardware,
        os=attributes.os,
        arch=attributes.arch,
        ram_bytes=attributes.ram_bytes,
        region=attributes.region,
        runtimes=dict(attributes.runtimes),
        extra=dict(attributes.extra),
        tags=list(attributes.tags),
        live={str(name): version for name, version in record.live.items()},
        enrolled=record.enrolled,
        last_seen=record.last_seen,
        history=history or [],
    )


def rollout_document(rollout: Rollout) -> RolloutDocument:
    """A rollout for the API."""
    name: ModelName = rollout.name
    return RolloutDocument(
        id=rollout.id,
        model=str(name),
        version=rollout.release.version,
        base_version=rollout.base.version if rollout.base else None,
        cohort=rollout.cohort,
        strategy=rollout.strategy.value,
        state=rollout.state,
        why=rollout.why,
        percent_bp=rollout.percent_bp,
        stage=rollout.stage,
        stages=[
            StageDocument(
                percent_bp=stage.percent_bp,
                soak_s=stage.soak_s,
                min_healthy=stage.min_healthy,
                min_inferences=stage.min_inferences,
                state=stage.state,
                began=stage.began,
            )
            for stage in rollout.stages
        ],
        max_error_ppm=rollout.guard.max_error_ppm,
        max_failed_ppm=rollout.guard.max_failed_ppm,
        auto_advance=rollout.auto_advance,
        requires_approval=rollout.requires_approval,
        approved_by=rollout.approved_by,
        created=rollout.created,
        created_by=rollout.created_by,
        started=rollout.started,
        ended=rollout.ended,
        counts=_counts(rollout.counts),
    )


def _counts(counts: Counts) -> CountsDocument:
    return CountsDocument.model_validate(counts, from_attributes=True)
