"""Rollouts, counts and fleets for the domain's tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from ota_contract.names import ModelName
from ota_contract.policy import ReleaseRef, Strategy
from ota_server.domain.rollout import ArmCounts, Counts, Guard, Rollout, Stage

NAME = ModelName("vision", "digits")
OLD = ReleaseRef(version="1.0.0", counter=1, manifest_sha256="1" * 64)
NEW = ReleaseRef(version="1.1.0", counter=2, manifest_sha256="2" * 64)
NEWER = ReleaseRef(version="1.2.0", counter=3, manifest_sha256="3" * 64)
T0 = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
POLL_S = 60

STAGES = (
    Stage(percent_bp=500, soak_s=600, min_healthy=2, min_inferences=100),
    Stage(percent_bp=2_500, soak_s=600, min_healthy=5, min_inferences=100),
    Stage(percent_bp=10_000, soak_s=0, min_healthy=10, min_inferences=100),
)
GOOD = Counts(
    devices_total=50,
    devices_targeted=50,
    devices_exposed=50,
    devices_healthy=50,
    candidate=ArmCounts(inferences=5_000, errors=10),
    control=ArmCounts(inferences=5_000, errors=10),
)
BAD = replace(GOOD, candidate=ArmCounts(inferences=1_000, errors=500))


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def draft(**changes: Any) -> Rollout:
    standard: dict[str, Any] = {
        "id": "r1",
        "name": NAME,
        "release": NEW,
        "base": OLD,
        "cohort": "everyone",
        "strategy": Strategy.CANARY,
        "stages": STAGES,
        "guard": Guard(),
        "created": T0,
        "created_by": "ada",
    }
    return Rollout(**(standard | changes))


def arm_counts() -> st.SearchStrategy[ArmCounts]:
    inferences = st.integers(0, 3_000)
    return inferences.flatmap(
        lambda total: st.builds(ArmCounts, inferences=st.just(total), errors=st.integers(0, total))
    )


def counts() -> st.SearchStrategy[Counts]:
    few = st.integers(0, 60)
    mostly_none = st.sampled_from([0, 0, 0, 1, 7])
    return st.builds(
        Counts,
        devices_total=few,
        devices_targeted=few,
        devices_exposed=few,
        devices_healthy=few,
        devices_failed=mostly_none | few,
        devices_returning=mostly_none,
        devices_stranded=mostly_none,
        candidate=st.just(ArmCounts(inferences=2_000, errors=5)) | arm_counts(),
        control=arm_counts(),
    )


def plans() -> st.SearchStrategy[tuple[Stage, ...]]:
    """Stages that rise to all devices."""
    steps = st.lists(st.integers(1, 9_999), max_size=4, unique=True).map(sorted)
    stage = st.tuples(st.integers(0, 600), st.integers(0, 20), st.integers(0, 2_000))

    def build(percentages: list[int], bounds: list[tuple[int, int, int]]) -> tuple[Stage, ...]:
        return tuple(
            Stage(percent_bp=percent, soak_s=soak, min_healthy=healthy, min_inferences=inferences)
            for percent, (soak, healthy, inferences) in zip([*percentages, 10_000], bounds, strict=False)
        )

    return st.builds(build, steps, st.lists(stage, min_size=5, max_size=5))


def drafts() -> st.SearchStrategy[Rollout]:
    ppm = st.integers(0, 1_000_000)
    return st.builds(
        draft,
        stages=plans(),
        guard=st.just(Guard()) | st.builds(Guard, max_error_ppm=ppm, max_failed_ppm=ppm),
        auto_advance=st.booleans(),
    )
