"""A rollout as a value: what moves, in which stages, under which guard, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from ota_contract.bucketing import BUCKETS
from ota_contract.manifest import MILLION
from ota_contract.names import ModelName
from ota_contract.policy import STANDARD_TRIAL, ReleaseRef, Strategy, Trial
from ota_server.errors import RolloutRefusedError, UnsupportedStrategyError

__all__ = [
    "HOLDING",
    "OPEN",
    "ArmCounts",
    "Counts",
    "Guard",
    "Rollout",
    "RolloutState",
    "Stage",
    "StageState",
    "check_plan",
]

_MAX_STAGES = 16
_SUPPORTED = (Strategy.CANARY, Strategy.RECREATE)


class RolloutState(Enum):
    """Where a rollout stands."""

    DRAFT = "draft"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    HALTED = "halted"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"

    @property
    def terminal(self) -> bool:
        """Whether nothing leads out of it."""
        return self in (RolloutState.COMPLETED, RolloutState.ROLLED_BACK, RolloutState.ABORTED)


HOLDING = (RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.HALTED)
"""States whose rule stands in the policy with its candidate."""

OPEN = (RolloutState.DRAFT, *HOLDING)
"""States that keep a model's cohort from another rollout. Not `rolling_back`: its devices are already
sent back, and one that never comes online again must not block the next release."""


class StageState(Enum):
    """Where a stage stands."""

    WAITING = "waiting"
    RUNNING = "running"
    """Devices are taking the candidate; its gates are not met yet."""
    SOAKING = "soaking"
    """Its gates are met; time has to pass."""
    PASSED = "passed"
    """By its gates, or because a person raised the percentage past it."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One widening."""

    percent_bp: int
    soak_s: int = 0
    """Seconds since it began before it can pass."""
    min_healthy: int = 1
    """Devices that must have called the candidate healthy."""
    min_inferences: int = 0
    """Candidate inferences before it can pass, and before its error rate is judged."""
    state: StageState = StageState.WAITING
    began: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What halts a rollout."""

    max_error_ppm: int = 50_000
    """Errors per million candidate inferences."""
    max_failed_ppm: int = 200_000
    """Devices, per million exposed, on which the candidate failed or was rolled back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCounts:
    """Predictions of one arm."""

    inferences: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the fleet says of a rollout, over devices that reported."""

    devices_total: int = 0
    """Known devices of the cohort."""
    devices_targeted: int = 0
    """Of these, the ones whose bucket is below the percentage."""
    devices_exposed: int = 0
    """Devices that began to take the candidate."""
    devices_healthy: int = 0
    devices_failed: int = 0
    """Devices where the candidate failed or was rolled back."""
    devices_returning: int = 0
    """Devices that run the candidate while the policy names another release for them."""
    devices_stranded: int = 0
    """Devices that run the candidate while the policy has nothing else for them."""
    candidate: ArmCounts = field(default_factory=ArmCounts)
    control: ArmCounts = field(default_factory=ArmCounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The move of one cohort of one model from a base to a candidate."""

    id: str
    """Also the salt of its buckets."""
    name: ModelName
    release: ReleaseRef
    """The candidate."""
    base: ReleaseRef | None
    """What the rest of the cohort runs; None leaves that to the policy's other rules."""
    cohort: str
    strategy: Strategy
    stages: tuple[Stage, ...]
    guard: Guard
    trial: Trial = STANDARD_TRIAL
    auto_advance: bool = True
    poll_interval_s: int | None = None
    requires_approval: bool = False
    created: datetime
    created_by: str
    approved_by: str = ""
    state: RolloutState = RolloutState.DRAFT
    stage: int = 0
    percent_bp: int = 0
    why: str = "waiting to be started"
    started: datetime | None = None
    turned_back: datetime | None = None
    """When the candidate left the policy."""
    returns: bool = False
    """Halted by the guard, which rolls back without being asked."""
    ended: datetime | None = None
    counts: Counts = field(default_factory=Counts)
    """As of the last tick; final once the rollout has ended."""


def check_plan(strategy: Strategy, stages: tuple[Stage, ...], guard: Guard) -> tuple[Stage, ...]:
    """The stages to run, or a refusal; `recreate` may leave them out.

    Raises:
        UnsupportedStrategyError: A strategy this version does not run.
        RolloutRefusedError: Stages that do not rise to 100 %, or a number out of bounds.
    """
    if strategy not in _SUPPORTED:
        raise UnsupportedStrategyError(
            f"strategy {strategy.value} is not supported by this version; use canary or recreate"
        )
    if strategy is Strategy.RECREATE:
        stages = stages or (Stage(percent_bp=BUCKETS),)
        if len(stages) != 1:
            raise RolloutRefusedError("recreate moves everyone at once: give one stage of 100 %, or none")
    if not 1 <= len(stages) <= _MAX_STAGES:
        raise RolloutRefusedError(f"a canary takes 1 to {_MAX_STAGES} stages, got {len(stages)}")
    percentages = [stage.percent_bp for stage in stages]
    shown = ", ".join(f"{percent / 100:g} %" for percent in percentages)
    if percentages != sorted(set(percentages)) or percentages[0] < 1:
        raise RolloutRefusedError(f"each stage must be wider than the one before, got {shown}")
    if percentages[-1] != BUCKETS:
        raise RolloutRefusedError(f"the last stage must be 100 %, got {shown}")
    for stage in stages:
        if min(stage.soak_s, stage.min_healthy, stage.min_inferences) < 0:
            raise RolloutRefusedError("soak_s, min_healthy and min_inferences cannot be negative")
    if not (0 <= guard.max_error_ppm <= MILLION and 0 <= guard.max_failed_ppm <= MILLION):
        raise RolloutRefusedError(f"max_error_ppm and max_failed_ppm lie in 0…{MILLION}")
    return stages
