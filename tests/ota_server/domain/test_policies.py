from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ota_contract.assignment import Arm, assign
from ota_contract.bucketing import bucket
from ota_contract.conditions import parse_condition
from ota_contract.device import Attributes
from ota_contract.names import ModelName
from ota_contract.policy import Policy, ReleaseRef, Strategy, parse_policy, policy_to_json
from ota_server.domain.lifecycle import decide, halt, pause, roll_back, set_percent, start
from ota_server.domain.policies import EVERYONE_NAME, base_below, baselines, make_policy, view_fleet
from ota_server.domain.rollout import HOLDING, Rollout, RolloutState, Stage
from tests.ota_server.domain.rollout_samples import NAME, NEW, NEWER, OLD, POLL_S, T0, at, draft

COHORTS = {
    "everyone": parse_condition({}),
    "europe": parse_condition({"region": "eu"}),
    "beta": parse_condition({"tags": {"$elemMatch": {"$eq": "beta"}}}),
}
FLEET = [
    Attributes(
        device_id=f"device-{index}",
        region=("eu", "us")[index % 2],
        tags=("beta",) if index % 5 == 0 else (),
    )
    for index in range(200)
]


def completed(cohort: str, release: ReleaseRef, seconds: int, **changes: Any) -> Rollout:
    return draft(
        id=f"done-{cohort}-{seconds}",
        cohort=cohort,
        release=release,
        state=RolloutState.COMPLETED,
        percent_bp=10_000,
        created=at(seconds),
        ended=at(seconds),
        **changes,
    )


def policy_of(*rollouts: Rollout) -> Policy:
    return make_policy(NAME, rollouts, COHORTS, poll_interval_s=300)


def live(policy: Policy, device: Attributes, running: str = "") -> str | None:
    release = assign(policy, device, live_version=running).release
    return None if release is None else release.version


EUROPEAN = Attributes(device_id="a", region="eu")
AMERICAN = Attributes(device_id="a", region="us")


def test_no_rollouts_are_no_rules() -> None:
    policy = policy_of(draft())
    assert policy.rules == ()
    assert policy.poll_interval_s == 300
    assert live(policy, EUROPEAN) is None


def test_the_newest_completed_rollout_of_a_cohort_counts() -> None:
    older, newer = completed("europe", OLD, 1), completed("europe", NEW, 2)
    assert baselines([older, newer]) == (newer,)
    assert live(policy_of(older, newer), EUROPEAN) == NEW.version
    assert live(policy_of(older, newer), AMERICAN) is None


def test_nothing_behind_a_completed_rollout_of_everyone_is_reached() -> None:
    europe, everyone = completed("europe", OLD, 1), completed("everyone", NEW, 2)
    assert baselines([europe, everyone]) == (everyone,)
    later = completed("europe", NEWER, 3)
    assert baselines([europe, everyone, later]) == (later, everyone)
    assert live(policy_of(europe, everyone, later), EUROPEAN) == NEWER.version
    assert live(policy_of(europe, everyone, later), AMERICAN) == NEW.version


def test_what_was_turned_back_decides_nothing() -> None:
    for state in (
        RolloutState.ROLLED_BACK,
        RolloutState.ABORTED,
        RolloutState.ROLLING_BACK,
        RolloutState.DRAFT,
    ):
        rollouts = [
            completed("everyone", OLD, 1),
            replace(draft(), state=state, percent_bp=10_000, ended=at(2)),
        ]
        assert live(policy_of(*rollouts), EUROPEAN) == OLD.version


def test_other_models_rollouts_are_not_in_the_policy() -> None:
    other = completed("everyone", NEW, 1, name=ModelName("vision", "other"))
    assert policy_of(other).rules == ()


def test_the_base_is_the_one_release_all_devices_of_the_cohort_have() -> None:
    everyone = completed("everyone", OLD, 1)
    assert base_below([], EVERYONE_NAME) is None
    assert base_below([everyone], EVERYONE_NAME) == OLD
    assert base_below([everyone], "europe") == OLD
    assert base_below([completed("europe", OLD, 1)], "europe") == OLD
    assert base_below([completed("europe", OLD, 1)], EVERYONE_NAME) is None


def test_where_the_cohorts_devices_differ_there_is_no_one_base() -> None:
    """A device of two cohorts must not be moved back by a rollout of the wider one."""
    rollouts = [completed("everyone", OLD, 1), completed("beta", NEW, 2)]
    assert base_below(rollouts, EVERYONE_NAME) is None
    assert base_below(rollouts, "europe") is None
    assert base_below(rollouts, "beta") == NEW
    same = [completed("everyone", NEW, 1), completed("beta", NEW, 2)]
    assert base_below(same, "europe") == NEW
    moving = start(draft(id="r2", release=NEWER, base=None, stages=(Stage(percent_bp=1),)), T0)
    beta = next(item for item in FLEET if "beta" in item.tags and bucket("r2", item.device_id) >= 1)
    assert live(policy_of(*rollouts, moving), beta) == NEW.version


def test_a_rollout_holds_the_policy_while_it_runs_is_paused_or_halted() -> None:
    for state in RolloutState:
        rollout = replace(start(draft(), T0), state=state)
        rules = [rule for rule in policy_of(rollout).rules if rule.candidate is not None]
        assert bool(rules) is (state in HOLDING)
        assert all(rule.frozen is (state is not RolloutState.RUNNING) for rule in rules)


def test_the_newest_rollout_comes_first_and_the_quickest_poll_is_asked_for() -> None:
    first = start(draft(id="r1", cohort="europe", created=at(1), poll_interval_s=30), T0)
    second = start(draft(id="r2", cohort="beta", created=at(2), poll_interval_s=20), T0)
    policy = policy_of(first, second, completed("everyone", OLD, 0))
    assert [rule.rollout for rule in policy.rules] == ["r2", "r1", ""]
    assert policy.poll_interval_s == 20


def test_a_policy_is_one_devices_can_read() -> None:
    rollouts = [start(draft(cohort="europe", created=at(1)), T0), completed("everyone", OLD, 0)]
    policy = policy_of(*rollouts)
    assert parse_policy(policy_to_json(policy)) == policy


@given(st.integers(1, 10_000), st.integers(0, 9_999))
def test_who_is_meant_is_who_the_device_thinks_is_meant(percent_bp: int, more: int) -> None:
    """The server's view and each device's own evaluation of the signed policy agree."""
    base = completed("everyone", OLD, 0)
    stages = (Stage(percent_bp=percent_bp), Stage(percent_bp=10_000))[percent_bp == 10_000 :]
    rollout = start(draft(cohort="europe", stages=stages), T0)
    if percent_bp + more <= 10_000 and more:
        rollout = set_percent(rollout, percent_bp + more, "ada", T0)
    policy = parse_policy(policy_to_json(policy_of(base, rollout)))
    fleet = [(device, OLD.version) for device in FLEET]
    view = view_fleet(rollout, policy, COHORTS["europe"], fleet)
    chosen = [device for device in FLEET if assign(policy, device).arm is Arm.CANDIDATE]
    assert view.targeted == len(chosen)
    assert view.total == sum(device.region == "eu" for device in FLEET)
    assert all(device.region == "eu" for device in chosen)
    assert all(bucket("r1", device.device_id) < rollout.percent_bp for device in chosen)
    assert (view.returning, view.stranded) == (0, 0)


def test_a_pause_changes_who_starts_and_not_who_is_meant() -> None:
    base = completed("everyone", OLD, 0)
    running = start(draft(stages=(Stage(percent_bp=5_000), Stage(percent_bp=10_000))), T0)
    paused = pause(running, "ada")
    fleet = [(device, OLD.version) for device in FLEET]
    views = [
        view_fleet(rollout, policy_of(base, rollout), COHORTS["everyone"], fleet)
        for rollout in (running, paused)
    ]
    assert views[0] == views[1]
    assert views[0].targeted > 0
    frozen = policy_of(base, paused)
    assert all(assign(frozen, device, live_version=OLD.version).release == OLD for device in FLEET)
    halted = policy_of(base, halt(running, "ada"))
    on_candidate = [d for d in FLEET if assign(halted, d, live_version=NEW.version).release == NEW]
    assert len(on_candidate) == views[0].targeted


def test_turned_back_devices_return_until_none_runs_the_candidate() -> None:
    base = completed("everyone", OLD, 0)
    running = start(draft(stages=(Stage(percent_bp=10_000),)), T0)
    back = roll_back(running, "ada", T0)
    policy = policy_of(base, back)
    assert {live(policy, device, NEW.version) for device in FLEET} == {OLD.version}
    fleet = [(device, NEW.version if index < 7 else OLD.version) for index, device in enumerate(FLEET)]
    view = view_fleet(back, policy, COHORTS["everyone"], fleet)
    assert (view.returning, view.stranded, view.targeted) == (7, 0, 0)


def test_devices_without_another_release_are_stranded() -> None:
    """A first release turned back: they keep it, since there is nothing else, and it is told."""
    running = start(draft(base=None, stages=(Stage(percent_bp=10_000),)), T0)
    back = roll_back(running, "ada", T0)
    policy = policy_of(back)
    fleet = [(device, NEW.version) for device in FLEET]
    view = view_fleet(back, policy, COHORTS["everyone"], fleet)
    assert (view.returning, view.stranded) == (0, len(FLEET))
    assert {live(policy, device, NEW.version) for device in FLEET} == {None}


def test_recreate_and_canary_are_one_rule_with_another_word() -> None:
    rollout = start(draft(strategy=Strategy.RECREATE, stages=(Stage(percent_bp=10_000),)), T0)
    (rule,) = policy_of(rollout).rules
    assert (rule.strategy, rule.threshold_bp, rule.salt) == (Strategy.RECREATE, 10_000, rollout.id)


def test_a_rollout_that_completes_becomes_the_baseline_without_a_gap() -> None:
    base = completed("everyone", OLD, 0)
    running = start(draft(stages=(Stage(percent_bp=10_000, min_healthy=0),)), T0)
    done = decide(running, running.counts, at(10), poll_interval_s=POLL_S)
    assert done.state is RolloutState.COMPLETED
    for rollout in (running, done):
        assert {live(policy_of(base, rollout), device) for device in FLEET} == {NEW.version}
