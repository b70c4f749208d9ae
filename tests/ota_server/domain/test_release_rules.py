from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ota_contract.policy import Strategy
from ota_server.domain.access import Principal, Role
from ota_server.domain.release import ReleaseRecord, TargetEntry, check_counter, check_targets
from ota_server.domain.rollout import Guard, Stage, check_plan
from ota_server.errors import (
    CounterError,
    ForbiddenError,
    ReleaseRefusedError,
    RolloutRefusedError,
    UnsupportedStrategyError,
)
from tests.ota_contract.release_samples import sample_release
from tests.ota_server.domain.rollout_samples import NAME, T0

LAST = ReleaseRecord(name=NAME, version="1.0.0", counter=5, floor=3, manifest_sha256="1" * 64, published=T0)
NEW = replace(sample_release(), counter=6, floor=3)
PATH = "rel/vision/digits/1.1.0.json"
ENTRY = TargetEntry(length_bytes=10, sha256="a" * 64)
BEFORE = {"rel/vision/digits/1.0.0.json": TargetEntry(length_bytes=9, sha256="b" * 64)}


def test_a_first_release_may_have_any_counter() -> None:
    check_counter(NEW, None)


@pytest.mark.parametrize(("counter", "floor"), [(6, 3), (6, 6), (100, 4)])
def test_counters_grow_and_floors_do_not_fall(counter: int, floor: int) -> None:
    check_counter(replace(NEW, counter=counter, floor=floor), LAST)


@pytest.mark.parametrize("counter", [5, 4, 1])
def test_a_counter_that_does_not_grow_is_refused_with_the_least_that_would(counter: int) -> None:
    with pytest.raises(CounterError, match="counter of at least 6"):
        check_counter(replace(NEW, counter=counter, floor=1), LAST)


def test_a_floor_that_falls_is_refused() -> None:
    with pytest.raises(CounterError, match="a floor never falls"):
        check_counter(replace(NEW, floor=2), LAST)


def test_a_release_is_named_by_what_pins_it() -> None:
    assert (LAST.ref.version, LAST.ref.counter, LAST.ref.manifest_sha256) == ("1.0.0", 5, "1" * 64)


def test_exactly_one_new_target_is_taken() -> None:
    check_targets(BEFORE, {**BEFORE, PATH: ENTRY}, path=PATH, entry=ENTRY)
    check_targets({}, {PATH: ENTRY}, path=PATH, entry=ENTRY)


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ({PATH: ENTRY}, "changes or drops rel/vision/digits/1.0.0.json"),
        ({**BEFORE}, "adds nothing; expected exactly"),
        ({**BEFORE, "rel/vision/digits/9.0.0.json": ENTRY}, "adds rel/vision/digits/9.0.0.json; expected"),
        (
            {**BEFORE, PATH: ENTRY, "rel/vision/other/1.0.0.json": ENTRY},
            "adds rel/vision/digits/1.1.0.json, rel",
        ),
        (
            {**BEFORE, PATH: replace(ENTRY, sha256="c" * 64)},
            "pins rel/vision/digits/1.1.0.json to other bytes",
        ),
        ({**BEFORE, PATH: replace(ENTRY, length_bytes=11)}, "to other bytes"),
    ],
)
def test_other_metadata_is_refused(after: dict[str, TargetEntry], why: str) -> None:
    with pytest.raises(ReleaseRefusedError, match=why):
        check_targets(BEFORE, after, path=PATH, entry=ENTRY)


@pytest.mark.parametrize("change", [{"length_bytes": 8}, {"sha256": "c" * 64}, {"custom": "{}"}])
def test_an_earlier_release_is_immutable_in_every_part(change: dict[str, Any]) -> None:
    (old,) = BEFORE
    after = {old: replace(BEFORE[old], **change), PATH: ENTRY}
    with pytest.raises(ReleaseRefusedError, match="releases are immutable"):
        check_targets(BEFORE, after, path=PATH, entry=ENTRY)


CANARY = (Stage(percent_bp=500), Stage(percent_bp=10_000))


def test_a_plan_that_rises_to_all_is_taken() -> None:
    assert check_plan(Strategy.CANARY, CANARY, Guard()) == CANARY
    assert check_plan(Strategy.CANARY, (Stage(percent_bp=10_000),), Guard(max_error_ppm=0)) == (
        Stage(percent_bp=10_000),
    )
    sixteen = tuple(Stage(percent_bp=percent) for percent in (*range(1, 16), 10_000))
    assert check_plan(Strategy.CANARY, sixteen, Guard()) == sixteen


def test_recreate_may_leave_its_stage_out() -> None:
    assert check_plan(Strategy.RECREATE, (), Guard()) == (Stage(percent_bp=10_000),)
    own = (Stage(percent_bp=10_000, soak_s=5),)
    assert check_plan(Strategy.RECREATE, own, Guard()) == own
    with pytest.raises(RolloutRefusedError, match="everyone at once"):
        check_plan(Strategy.RECREATE, CANARY, Guard())


@pytest.mark.parametrize("strategy", [Strategy.BLUE_GREEN, Strategy.SHADOW, Strategy.AB_TEST])
def test_a_strategy_this_version_does_not_run_is_refused(strategy: Strategy) -> None:
    """Never run as another one: a shadow that went live would answer people."""
    with pytest.raises(UnsupportedStrategyError, match=strategy.value):
        check_plan(strategy, CANARY, Guard())


@pytest.mark.parametrize(
    "percentages",
    [
        [],
        [0, 10_000],
        [-1, 10_000],
        [500],
        [500, 9_999],
        [500, 500, 10_000],
        [2_500, 500, 10_000],
        [500, 10_001],
        [*range(1, 17), 10_000],
    ],
    ids=str,
)
def test_stages_that_do_not_rise_to_all_are_refused(percentages: list[int]) -> None:
    with pytest.raises(RolloutRefusedError):
        check_plan(Strategy.CANARY, tuple(Stage(percent_bp=percent) for percent in percentages), Guard())


@pytest.mark.parametrize(
    "stage",
    [
        Stage(percent_bp=10_000, soak_s=-1),
        Stage(percent_bp=10_000, min_healthy=-1),
        Stage(percent_bp=10_000, min_inferences=-1),
    ],
)
def test_negative_bounds_are_refused(stage: Stage) -> None:
    with pytest.raises(RolloutRefusedError, match="cannot be negative"):
        check_plan(Strategy.CANARY, (stage,), Guard())


@pytest.mark.parametrize(
    "guard",
    [
        Guard(max_error_ppm=-1),
        Guard(max_error_ppm=1_000_001),
        Guard(max_failed_ppm=-1),
        Guard(max_failed_ppm=10**7),
    ],
)
def test_limits_are_fractions(guard: Guard) -> None:
    with pytest.raises(RolloutRefusedError, match="lie in 0"):
        check_plan(Strategy.CANARY, CANARY, guard)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("other", Role)
def test_a_token_does_what_its_role_lets_it(role: Role, other: Role) -> None:
    principal = Principal(name="ada", role=role)
    if role is other:
        principal.require(other)
    else:
        with pytest.raises(
            ForbiddenError, match=f"takes a {other.value} token; 'ada' is a {role.value} token"
        ):
            principal.require(other)
    principal.require(role, other)


def test_a_publisher_publishes_as_itself_alone() -> None:
    Principal(name="ci", role=Role.PUBLISHER, publisher="vision").require_publisher("vision")
    with pytest.raises(ForbiddenError, match="publishes as vision, not as audio"):
        Principal(name="ci", role=Role.PUBLISHER, publisher="vision").require_publisher("audio")
    with pytest.raises(ForbiddenError, match="takes a publisher token"):
        Principal(name="ada", role=Role.FLEET_MANAGER, publisher="vision").require_publisher("vision")
