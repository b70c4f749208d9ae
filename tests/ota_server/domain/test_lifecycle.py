from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ota_server.domain import lifecycle
from ota_server.domain.lifecycle import (
    abort,
    approve,
    decide,
    halt,
    pause,
    resume,
    roll_back,
    set_percent,
    start,
)
from ota_server.domain.rollout import (
    ArmCounts,
    Counts,
    Guard,
    Rollout,
    RolloutState,
    Stage,
    StageState,
    check_plan,
)
from ota_server.errors import ConflictError, ForbiddenError, IllegalTransitionError
from tests.ota_server.domain.rollout_samples import (
    BAD,
    GOOD,
    POLL_S,
    STAGES,
    T0,
    at,
    counts,
    draft,
    drafts,
)

# DESIGN.md: draft → running ⇄ paused → completed; running | paused → halted → rolling_back →
# rolled_back; draft → aborted. One decision may take several edges at once.
_S = RolloutState
EDGES = {
    _S.DRAFT: {_S.RUNNING, _S.ABORTED},
    _S.RUNNING: {_S.PAUSED, _S.COMPLETED, _S.HALTED, _S.ROLLING_BACK},
    _S.PAUSED: {_S.RUNNING, _S.HALTED, _S.ROLLING_BACK},
    _S.HALTED: {_S.ROLLING_BACK},
    _S.ROLLING_BACK: {_S.ROLLED_BACK},
    _S.COMPLETED: set(),
    _S.ROLLED_BACK: set(),
    _S.ABORTED: set(),
}
STAGE_EDGES = {
    # One tick may lead through several: a stage that begins with its gates met soaks at once.
    StageState.WAITING: {StageState.RUNNING, StageState.SOAKING, StageState.PASSED, StageState.FAILED},
    StageState.RUNNING: {StageState.SOAKING, StageState.PASSED, StageState.FAILED},
    StageState.SOAKING: {StageState.PASSED, StageState.FAILED, StageState.RUNNING},
    StageState.PASSED: {StageState.FAILED},
    StageState.FAILED: set(),
}


def tick(rollout: Rollout, reported: Counts = GOOD, now: datetime = T0) -> Rollout:
    return decide(rollout, reported, now, poll_interval_s=POLL_S)


def running(**changes: object) -> Rollout:
    return start(draft(**changes), T0)


def reachable(begin: RolloutState) -> set[RolloutState]:
    found, waiting = {begin}, [begin]
    while waiting:
        for state in EDGES[waiting.pop()] - found:
            found.add(state)
            waiting.append(state)
    return found


class Life(RuleBasedStateMachine):
    """Any sequence of commands, reports and times, as people and fleets produce them."""

    @initialize(rollout=drafts(), requires_approval=st.booleans())
    def create(self, rollout: Rollout, requires_approval: bool) -> None:  # noqa: FBT001
        self.rollout = replace(rollout, requires_approval=requires_approval)
        self.now = T0
        self.history = [self.rollout]

    def keep(self, following: Rollout) -> None:
        before = self.rollout
        assert following.state is before.state or following.state in reachable(before.state)
        assert following.percent_bp >= before.percent_bp
        assert following.stage >= before.stage
        for old, new in zip(before.stages, following.stages, strict=True):
            assert replace(new, state=old.state, began=old.began) == old
            assert new.state is old.state or new.state in STAGE_EDGES[old.state]
        if before.state.terminal:
            assert following == before
        self.rollout = following
        self.history.append(following)

    def command(self, allowed: set[RolloutState], act: Callable[[], Rollout]) -> None:
        try:
            following = act()
        except (ConflictError, ForbiddenError):
            return  # the domain is pure: a refusal cannot have changed anything
        assert self.rollout.state in allowed
        self.keep(following)

    @rule(reported=counts(), seconds=st.integers(0, 700))
    def tick(self, reported: Counts, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        following = tick(self.rollout, reported, self.now)
        assert tick(following, reported, self.now) == following, "a repeated tick changes nothing"
        self.keep(following)

    @rule(seconds=st.integers(0, 700))
    def good_tick(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.keep(tick(self.rollout, GOOD, self.now))

    @rule()
    def start(self) -> None:
        self.command({_S.DRAFT}, lambda: start(self.rollout, self.now))

    @rule(by=st.sampled_from(["ada", "bob"]))
    def approve(self, by: str) -> None:
        self.command({_S.DRAFT}, lambda: approve(self.rollout, by))

    @rule()
    def pause(self) -> None:
        self.command({_S.RUNNING}, lambda: pause(self.rollout, "bob"))

    @rule()
    def resume(self) -> None:
        self.command({_S.PAUSED}, lambda: resume(self.rollout, self.now))

    @rule(percent_bp=st.integers(-1, 10_001))
    def set_percent(self, percent_bp: int) -> None:
        self.command({_S.RUNNING}, lambda: set_percent(self.rollout, percent_bp, "bob", self.now))

    @rule()
    def halt(self) -> None:
        self.command({_S.RUNNING, _S.PAUSED}, lambda: halt(self.rollout, "bob"))

    @rule()
    def roll_back(self) -> None:
        allowed = {_S.RUNNING, _S.PAUSED, _S.HALTED}
        self.command(allowed, lambda: roll_back(self.rollout, "bob", self.now))

    @rule()
    def abort(self) -> None:
        self.command({_S.DRAFT}, lambda: abort(self.rollout, "bob", self.now))

    @invariant()
    def says_why(self) -> None:
        why = getattr(self, "rollout", draft()).why
        assert why.strip()
        assert "\n" not in why

    @invariant()
    def is_consistent(self) -> None:
        rollout = getattr(self, "rollout", None)
        if rollout is None:
            return
        assert 0 <= rollout.percent_bp <= 10_000
        assert rollout.state.terminal is (rollout.ended is not None)
        if rollout.state is _S.COMPLETED:
            assert rollout.percent_bp == 10_000
            assert {stage.state for stage in rollout.stages} == {StageState.PASSED}
        if rollout.state in (_S.HALTED, _S.ROLLING_BACK, _S.ROLLED_BACK):
            assert rollout.stages[rollout.stage].state is StageState.FAILED
        if rollout.state in (_S.ROLLING_BACK, _S.ROLLED_BACK):
            assert rollout.turned_back is not None
        if rollout.state is not _S.DRAFT and rollout.requires_approval and rollout.started:
            assert rollout.approved_by not in ("", rollout.created_by)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=120, stateful_step_count=25)


@given(drafts(), counts(), st.integers(0, 2_000))
def test_a_repeated_tick_changes_nothing(rollout: Rollout, reported: Counts, seconds: int) -> None:
    once = tick(start(rollout, T0), reported, at(seconds))
    assert tick(once, reported, at(seconds)) == once


@given(rollout=drafts(), reported=counts(), paused=st.booleans(), seconds=st.integers(0, 2_000))
def test_a_tripped_guard_always_ends_rolled_back(
    *,
    rollout: Rollout,
    reported: Counts,
    paused: bool,
    seconds: int,
) -> None:
    """Also when paused, and without anybody asking; it ends once no device runs the candidate."""
    begun = start(rollout, T0)
    begun = pause(begun, "ada") if paused else begun
    after = tick(begun, reported, at(seconds))
    guard, stage, arm = rollout.guard, rollout.stages[0], reported.candidate
    too_many_errors = (
        arm.inferences >= max(1, stage.min_inferences)
        and arm.errors * 10**6 > guard.max_error_ppm * arm.inferences
    )
    too_many_failed = (
        reported.devices_exposed >= max(1, stage.min_healthy)
        and reported.devices_failed * 10**6 > guard.max_failed_ppm * reported.devices_exposed
    )
    if too_many_errors or too_many_failed:
        assert after.state is _S.ROLLING_BACK
        assert after.returns
        assert "more than the" in after.why
        still = tick(after, replace(reported, devices_returning=3), at(seconds + POLL_S))
        assert (still.state, "3 devices still run 1.1.0" in still.why) == (_S.ROLLING_BACK, True)
        over = tick(still, replace(reported, devices_returning=0), at(seconds + POLL_S))
        assert over.state is _S.ROLLED_BACK
        assert "more than the" in over.why
    elif paused:
        assert after == replace(begun, counts=reported)


def test_a_pause_does_not_blind_the_guard() -> None:
    assert tick(pause(running(), "ada"), BAD).state is _S.ROLLING_BACK


def test_a_canary_advances_by_itself_on_reports_and_time() -> None:
    rollout = tick(running())
    assert (rollout.stage, rollout.stages[0].state) == (0, StageState.SOAKING)
    assert "soaks until 2026-01-02 03:14:05 UTC" in rollout.why
    rollout = tick(rollout, GOOD, at(599))
    assert rollout.stage == 0
    rollout = tick(rollout, GOOD, at(600))
    assert (rollout.stage, rollout.percent_bp, rollout.state) == (1, 2_500, _S.RUNNING)
    rollout = tick(rollout, GOOD, at(1_200))
    assert (rollout.stage, rollout.percent_bp, rollout.state) == (2, 10_000, _S.COMPLETED)
    assert rollout.ended == at(1_200)
    assert "every stage passed" in rollout.why


def test_a_stage_waits_for_what_it_says_it_waits_for() -> None:
    none = tick(running(), Counts(), at(10_000))
    assert none.stages[0].state is StageState.RUNNING
    assert none.why == (
        "stage 1 of 3 (5 %) waits for 2 healthy devices (now 0) and 100 candidate inferences (now 0); "
        "only 0 known devices are targeted"
    )
    some = tick(none, replace(GOOD, candidate=ArmCounts(inferences=99)), at(10_000))
    assert some.why == "stage 1 of 3 (5 %) waits for 100 candidate inferences (now 99)"


def test_a_rate_of_exactly_the_limit_is_allowed() -> None:
    guard = Guard(max_error_ppm=50_000, max_failed_ppm=200_000)
    allowed = replace(GOOD, candidate=ArmCounts(inferences=1_000, errors=50), devices_failed=10)
    assert tick(running(guard=guard), allowed).state is _S.RUNNING
    one_more = replace(allowed, candidate=ArmCounts(inferences=1_000, errors=51))
    assert tick(running(guard=guard), one_more).state is _S.ROLLING_BACK
    assert tick(running(guard=guard), replace(allowed, devices_failed=11)).state is _S.ROLLING_BACK


def test_the_guard_waits_for_as_many_reports_as_the_stage_names() -> None:
    early = replace(BAD, candidate=ArmCounts(inferences=99, errors=99))
    assert tick(running(), early).state is _S.RUNNING
    first = replace(BAD, devices_exposed=1, devices_failed=1, candidate=ArmCounts())
    assert tick(running(), first).state is _S.RUNNING


def test_without_auto_advance_a_passed_stage_waits_for_a_hand() -> None:
    rollout = tick(running(auto_advance=False), GOOD, at(10_000))
    assert (rollout.state, rollout.stage, rollout.stages[0].state) == (_S.RUNNING, 0, StageState.PASSED)
    assert rollout.why == "stage 1 of 3 (5 %) passed; raise the percentage to 25 % to go on"
    between = set_percent(rollout, 1_000, "ada", at(10_001))
    assert tick(between, GOOD, at(10_001)).stage == 0
    raised = set_percent(between, 2_500, "ada", at(10_002))
    assert (raised.stage, raised.stages[1].began) == (1, at(10_002))


@given(drafts(), st.lists(st.integers(-100, 10_100), max_size=6))
def test_a_percentage_is_only_ever_raised(rollout: Rollout, wanted: list[int]) -> None:
    rollout = start(rollout, T0)
    for percent_bp in wanted:
        before = rollout
        if not before.percent_bp < percent_bp <= 10_000:
            with pytest.raises(IllegalTransitionError, match="can only be raised"):
                set_percent(rollout, percent_bp, "ada", T0)
            continue
        rollout = set_percent(rollout, percent_bp, "ada", T0)
        assert rollout.percent_bp == percent_bp > before.percent_bp
        current = rollout.stages[rollout.stage]
        assert current.percent_bp <= percent_bp
        later = rollout.stages[rollout.stage + 1 :]
        assert all(stage.percent_bp > percent_bp for stage in later)
        assert all(stage.state is StageState.PASSED for stage in rollout.stages[: rollout.stage])


def test_a_percentage_raised_by_hand_is_not_lowered_by_the_next_stage() -> None:
    rollout = set_percent(running(), 2_000, "ada", T0)
    rollout = set_percent(rollout, 2_400, "ada", T0)
    assert tick(rollout, GOOD, at(600)).percent_bp == 2_500
    stages = (Stage(percent_bp=100), Stage(percent_bp=200), Stage(percent_bp=10_000))
    raised = set_percent(running(stages=stages), 5_000, "ada", T0)
    assert (raised.stage, raised.percent_bp) == (1, 5_000)


def test_soaking_begins_anew_after_a_pause() -> None:
    """A pause proves nothing about the candidate."""
    rollout = resume(pause(tick(running()), "ada"), at(500))
    assert rollout.stages[0].state is StageState.RUNNING
    assert tick(rollout, GOOD, at(1_099)).stage == 0
    assert tick(rollout, GOOD, at(1_100)).stage == 1


def test_halted_by_hand_waits_for_a_hand() -> None:
    halted = halt(running(), "ada")
    assert tick(halted, BAD, at(10**6)).state is _S.HALTED
    assert tick(roll_back(halted, "bob", at(5)), GOOD, at(5 + POLL_S)).state is _S.ROLLED_BACK


def test_a_return_is_not_over_before_every_devices_next_poll() -> None:
    back = roll_back(running(), "ada", T0)
    waiting = tick(back, GOOD, at(POLL_S - 1))
    assert waiting.state is _S.ROLLING_BACK
    assert waiting.why == "rolled back by ada; waiting for every device's next poll"
    over = tick(waiting, GOOD, at(POLL_S))
    assert (over.state, over.ended) == (_S.ROLLED_BACK, at(POLL_S))
    assert over.why == "rolled back by ada; no device runs 1.1.0 because of it any more"


def test_devices_with_nothing_to_return_to_are_told_of() -> None:
    over = tick(roll_back(running(), "ada", T0), replace(GOOD, devices_stranded=4), at(POLL_S))
    assert "4 devices keep 1.1.0" in over.why


def test_what_has_ended_keeps_its_counts() -> None:
    completed = tick(running(stages=(Stage(percent_bp=10_000),)), GOOD)
    assert completed.state is _S.COMPLETED
    assert tick(completed, Counts(), at(10**6)) == completed
    aborted = abort(draft(), "ada", T0)
    assert tick(aborted, GOOD) == aborted


def test_a_second_person_approves() -> None:
    waiting = draft(requires_approval=True)
    with pytest.raises(IllegalTransitionError, match="approval of somebody other than ada"):
        start(waiting, T0)
    with pytest.raises(ForbiddenError, match="somebody else"):
        approve(waiting, "ada")
    assert start(approve(waiting, "bob"), T0).state is _S.RUNNING


COMMANDS: dict[str, tuple[Callable[[Rollout], Rollout], set[RolloutState]]] = {
    "start": (lambda rollout: start(rollout, T0), {_S.DRAFT}),
    "approve": (lambda rollout: approve(rollout, "bob"), {_S.DRAFT}),
    "abort": (lambda rollout: abort(rollout, "bob", T0), {_S.DRAFT}),
    "pause": (lambda rollout: pause(rollout, "bob"), {_S.RUNNING}),
    "resume": (lambda rollout: resume(rollout, T0), {_S.PAUSED}),
    "set_percent": (lambda rollout: set_percent(rollout, 9_000, "bob", T0), {_S.RUNNING}),
    "halt": (lambda rollout: halt(rollout, "bob"), {_S.RUNNING, _S.PAUSED}),
    "roll_back": (lambda rollout: roll_back(rollout, "bob", T0), {_S.RUNNING, _S.PAUSED, _S.HALTED}),
}


@pytest.mark.parametrize("state", RolloutState, ids=lambda state: state.value)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_admitted_in_its_states_and_in_no_other(name: str, state: RolloutState) -> None:
    command, allowed = COMMANDS[name]
    rollout = replace(running() if state is not _S.DRAFT else draft(), state=state)
    if state in allowed:
        assert command(rollout).why
    else:
        with pytest.raises(IllegalTransitionError, match="r1"):
            command(rollout)


def test_every_command_is_listed() -> None:
    assert COMMANDS.keys() | {"decide"} == set(lifecycle.__all__)


def test_the_sample_is_a_plan_the_server_takes() -> None:
    assert check_plan(draft().strategy, STAGES, Guard()) == STAGES
