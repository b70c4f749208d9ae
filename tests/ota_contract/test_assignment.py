from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_contract.assignment import Arm, assign
from ota_contract.bucketing import bucket
from ota_contract.conditions import EVERYONE, parse_condition
from ota_contract.device import Attributes
from ota_contract.names import ModelName
from ota_contract.policy import Policy, ReleaseRef, Rule, Strategy, Trial
from tests.ota_contract.contract_strategies import attributes, device_ids, policies, rules

OLD = ReleaseRef(version="1.0.0", counter=1, manifest_sha256="1" * 64)
NEW = ReleaseRef(version="1.1.0", counter=2, manifest_sha256="2" * 64)
NEWER = ReleaseRef(version="1.2.0", counter=3, manifest_sha256="3" * 64)
FLEET = [Attributes(device_id=f"device-{index}") for index in range(2_000)]


def rule(**changes: Any) -> Rule:
    standard: dict[str, Any] = {
        "cohort": "everyone",
        "condition": EVERYONE,
        "base": OLD,
        "candidate": NEW,
        "rollout": "r1",
        "salt": "r1",
        "threshold_bp": 500,
    }
    return Rule(**(standard | changes))


def policy(*items: Rule) -> Policy:
    return Policy(name=ModelName("vision", "digits"), revision=1, poll_interval_s=300, rules=items)


def candidates(threshold_bp: int, salt: str = "r1") -> set[str]:
    moving = policy(rule(threshold_bp=threshold_bp, salt=salt))
    return {device.device_id for device in FLEET if assign(moving, device).arm is Arm.CANDIDATE}


def in_bucket(low: int, high: int) -> Attributes:
    return next(device for device in FLEET if low <= bucket("r1", device.device_id) < high)


@given(rules(), policies(), attributes(), st.integers(0, 10_000), st.integers(0, 10_000))
def test_raising_a_threshold_only_adds_devices(
    drawn: Rule, rest: Policy, device: Attributes, one: int, other: int
) -> None:
    """Under any rule, for any device: who takes the candidate at less takes it at more."""

    def takes_candidate(threshold_bp: int) -> bool:
        first = replace(drawn, candidate=NEW, rollout="this one", threshold_bp=threshold_bp)
        assignment = assign(replace(rest, rules=(first, *rest.rules)), device, live_version=NEW.version)
        return (assignment.rollout, assignment.arm) == ("this one", Arm.CANDIDATE)

    low, high = sorted((one, other))
    assert takes_candidate(high) or not takes_candidate(low)


@given(st.integers(0, 10_000), device_ids())
def test_a_bucket_below_the_threshold_has_the_candidate_and_no_other(
    threshold_bp: int, device_id: str
) -> None:
    assignment = assign(policy(rule(threshold_bp=threshold_bp)), Attributes(device_id=device_id))
    below = bucket("r1", device_id) < threshold_bp
    assert assignment.release == (NEW if below else OLD)
    assert assignment.arm is (Arm.CANDIDATE if below else Arm.CONTROL)
    assert (assignment.rollout, assignment.cohort) == ("r1", "everyone")
    assert assignment.reason


def test_a_device_whose_bucket_is_the_threshold_is_not_below_it() -> None:
    device = in_bucket(1, 10_000)
    number = bucket("r1", device.device_id)
    assert assign(policy(rule(threshold_bp=number)), device).arm is Arm.CONTROL
    assert assign(policy(rule(threshold_bp=number + 1)), device).arm is Arm.CANDIDATE


def test_no_and_all_devices_are_reached_at_the_ends() -> None:
    assert candidates(0) == set()
    assert candidates(10_000) == {device.device_id for device in FLEET}


def test_thresholds_nest() -> None:
    stages = [candidates(threshold) for threshold in (100, 500, 2_500, 5_000, 10_000)]
    assert all(narrow < wide for narrow, wide in itertools.pairwise(stages))
    assert 60 < len(stages[1]) < 140  # 100 expected, standard deviation 10


def test_salts_choose_independently() -> None:
    """5 % of one rollout and 50 % of another share about half of the 5 %."""
    narrow, wide = candidates(500, "r1"), candidates(5_000, "r2")
    assert 0.3 < len(narrow & wide) / len(narrow) < 0.7


def test_a_late_joiner_gets_what_its_bucket_says() -> None:
    """At a threshold passed long ago, without having been there when it was raised."""
    late = in_bucket(0, 500)
    assert assign(policy(rule(threshold_bp=2_500)), late, live_version="").arm is Arm.CANDIDATE
    assert assign(policy(rule(threshold_bp=2_500)), late, live_version="0.9.0").release == NEW


def test_a_frozen_rule_keeps_who_has_the_candidate_and_starts_nobody() -> None:
    frozen, device = policy(rule(frozen=True)), in_bucket(0, 500)
    kept = assign(frozen, device, live_version=NEW.version)
    assert (kept.release, kept.arm) == (NEW, Arm.CANDIDATE)
    waiting = assign(frozen, device, live_version=OLD.version)
    assert (waiting.release, waiting.arm) == (OLD, Arm.NONE)
    control = assign(frozen, in_bucket(500, 10_000), live_version=OLD.version)
    assert (control.release, control.arm) == (OLD, Arm.CONTROL)


def test_a_frozen_device_above_the_threshold_goes_to_the_base() -> None:
    """Its bucket no longer is the candidate's: it does not keep what it was not assigned."""
    assignment = assign(policy(rule(frozen=True)), in_bucket(500, 10_000), live_version=NEW.version)
    assert assignment.release == OLD


def test_without_a_base_the_rules_below_decide() -> None:
    several = policy(rule(base=None, candidate=NEWER), rule(candidate=None, base=NEW, rollout=""))
    assert assign(several, in_bucket(0, 500)).release == NEWER
    below = assign(several, in_bucket(500, 10_000))
    assert (below.release, below.arm, below.rollout) == (NEW, Arm.NONE, "")
    frozen = policy(rule(base=None, candidate=NEWER, frozen=True), rule(candidate=None, base=NEW, rollout=""))
    assert assign(frozen, in_bucket(0, 500), live_version=OLD.version).release == NEW


def test_the_first_matching_rule_decides() -> None:
    europe = parse_condition({"region": "eu"})
    several = policy(
        rule(condition=europe, cohort="europe", candidate=None, base=NEWER),
        rule(candidate=None, base=OLD),
    )
    assert assign(several, Attributes(device_id="a", region="eu")).release == NEWER
    assert assign(several, Attributes(device_id="a", region="us")).release == OLD


def test_rules_see_tags_runtimes_and_extra_attributes() -> None:
    condition = parse_condition(
        {"tags": {"$elemMatch": {"$eq": "beta"}}, "runtimes": {"$all": ["onnx"]}, "line": 4}
    )
    device = Attributes(device_id="a", tags=("beta",), runtimes={"onnx": "1.20"}, extra={"line": 4})
    moving = policy(rule(condition=condition, threshold_bp=10_000))
    assert assign(moving, device).release == NEW
    assert assign(moving, replace(device, tags=())).release is None


def test_an_extra_attribute_cannot_pass_for_one_of_ferrys() -> None:
    moving = policy(rule(condition=parse_condition({"region": "eu"}), threshold_bp=10_000))
    assert assign(moving, Attributes(device_id="a", extra={"region": "eu"})).release is None


def test_whom_no_rule_matches_keeps_what_it_runs() -> None:
    for several in (policy(), policy(rule(condition=parse_condition({"region": "eu"})))):
        assignment = assign(several, Attributes(device_id="a"), live_version="1.0.0")
        assert (assignment.release, assignment.arm) == (None, Arm.NONE)
        assert "no cohort" in assignment.reason


@pytest.mark.parametrize("strategy", [Strategy.SHADOW, Strategy.AB_TEST, Strategy.BLUE_GREEN])
def test_a_strategy_not_run_here_leaves_the_device_on_the_base(strategy: Strategy) -> None:
    """A release that was only to be watched must not answer instead."""
    assignment = assign(policy(rule(strategy=strategy, threshold_bp=10_000)), in_bucket(0, 10_000))
    assert (assignment.release, assignment.arm) == (OLD, Arm.NONE)


def test_the_trial_comes_with_the_release() -> None:
    trial = Trial(inferences=3)
    moving = policy(rule(trial=trial))
    assert assign(moving, in_bucket(0, 500)).trial == trial
    assert assign(moving, in_bucket(500, 10_000)).trial == trial


@given(policies(), attributes())
def test_any_policy_assigns_any_device_and_says_why(drawn: Policy, device: Attributes) -> None:
    assignment = assign(drawn, device, live_version="1.0.0")
    assert assignment.reason
    offered = {ref for item in drawn.rules for ref in (item.base, item.candidate)}
    assert assignment.release is None or assignment.release in offered
