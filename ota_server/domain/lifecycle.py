"""The rollout state machine: pure functions from a rollout, its counts and the time to the next rollout.

draft ─start→ running ⇄ paused;  running ─last stage passed→ completed
running | paused ─guard or hand→ halted ─→ rolling_back ─→ rolled_back;  draft ─abort→ aborted

Every rollout it returns carries a sentence `why`: what it is waiting for, or what ended it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from ota_contract.bucketing import BUCKETS
from ota_contract.manifest import MILLION
from ota_server.domain.rollout import Counts, Rollout, RolloutState, Stage, StageState
from ota_server.errors import ForbiddenError, IllegalTransitionError

__all__ = ["abort", "approve", "decide", "halt", "pause", "resume", "roll_back", "set_percent", "start"]


def decide(rollout: Rollout, counts: Counts, now: datetime, *, poll_interval_s: int) -> Rollout:
    """The rollout after everything that follows by itself at this moment.

    Calling it again with the same arguments changes nothing: a tick lost or repeated does no harm.

    Args:
        rollout: As stored.
        counts: What the fleet reported.
        now: The time.
        poll_interval_s: How long a device may take to notice that it is sent back.
    """
    if rollout.state.terminal:
        return rollout  # its counts are final
    rollout = replace(rollout, counts=counts)
    while True:
        following = _step(rollout, now, poll_interval_s)
        if following == rollout:
            return rollout
        rollout = following


def _step(rollout: Rollout, now: datetime, poll_interval_s: int) -> Rollout:
    match rollout.state:
        case RolloutState.RUNNING:
            tripped = _guard(rollout)
            return _halted(rollout, tripped) if tripped else _judge_stage(rollout, now)
        case RolloutState.PAUSED:
            # The devices that have the candidate still run it: a pause must not blind the guard.
            tripped = _guard(rollout)
            return _halted(rollout, tripped) if tripped else rollout
        case RolloutState.HALTED if rollout.returns:
            return _turned_back(rollout, now, rollout.why)
        case RolloutState.ROLLING_BACK:
            return _judge_return(rollout, now, poll_interval_s)
        case _:
            return rollout


def _guard(rollout: Rollout) -> str:
    """Why the candidate must go, or nothing."""
    counts, stage, limits = rollout.counts, rollout.stages[rollout.stage], rollout.guard
    errors, inferences = counts.candidate.errors, counts.candidate.inferences
    if inferences >= max(1, stage.min_inferences) and _above(errors, inferences, limits.max_error_ppm):
        rate = _rate(errors, inferences, limits.max_error_ppm)
        return f"{errors} of {inferences} candidate inferences failed ({rate})"
    exposed, failed = counts.devices_exposed, counts.devices_failed
    if exposed >= max(1, stage.min_healthy) and _above(failed, exposed, limits.max_failed_ppm):
        rate = _rate(failed, exposed, limits.max_failed_ppm)
        return f"the candidate failed on {failed} of {exposed} exposed devices ({rate})"
    return ""


def _above(part: int, whole: int, limit_ppm: int) -> bool:
    # In integers: a rate of exactly the limit is allowed, whatever the rounding of a division.
    return part * MILLION > limit_ppm * whole


def _rate(part: int, whole: int, limit_ppm: int) -> str:
    return f"{100 * part / whole:.1f} %, more than the {limit_ppm / 10_000:g} % allowed"


def _judge_stage(rollout: Rollout, now: datetime) -> Rollout:
    stage = rollout.stages[rollout.stage]
    label = f"stage {rollout.stage + 1} of {len(rollout.stages)} ({_percent(rollout.percent_bp)})"
    if stage.state is StageState.PASSED:
        return _after_passing(rollout, now, label)
    missing = _missing(stage, rollout.counts)
    if missing:
        return replace(rollout, why=f"{label} waits for {missing}")
    began = stage.began or now
    passes = began + timedelta(seconds=stage.soak_s)
    if now < passes:
        # The instant, not the seconds left: the sentence stays equal between two ticks.
        soaking = replace(stage, state=StageState.SOAKING)
        why = f"{label} is healthy and soaks until {passes:%Y-%m-%d %H:%M:%S} UTC"
        return replace(_with_stage(rollout, soaking), why=why)
    return _with_stage(rollout, replace(stage, state=StageState.PASSED))


def _after_passing(rollout: Rollout, now: datetime, label: str) -> Rollout:
    if rollout.stage + 1 == len(rollout.stages):
        counts = rollout.counts
        why = (
            f"every stage passed: {counts.devices_healthy} devices healthy, "
            f"{counts.candidate.errors} errors in {counts.candidate.inferences} inferences"
        )
        return replace(rollout, state=RolloutState.COMPLETED, why=why, ended=now)
    following = rollout.stages[rollout.stage + 1]
    if not rollout.auto_advance:
        why = f"{label} passed; raise the percentage to {_percent(following.percent_bp)} to go on"
        return replace(rollout, why=why)
    return _begin_stage(rollout, rollout.stage + 1, max(rollout.percent_bp, following.percent_bp), now)


def _missing(stage: Stage, counts: Counts) -> str:
    parts = []
    if counts.devices_healthy < stage.min_healthy:
        parts.append(f"{stage.min_healthy} healthy devices (now {counts.devices_healthy})")
    if counts.candidate.inferences < stage.min_inferences:
        parts.append(f"{stage.min_inferences} candidate inferences (now {counts.candidate.inferences})")
    text = " and ".join(parts)
    if text and counts.devices_targeted < stage.min_healthy:
        text += f"; only {counts.devices_targeted} known devices are targeted"
    return text


def _judge_return(rollout: Rollout, now: datetime, poll_interval_s: int) -> Rollout:
    counts = rollout.counts
    if counts.devices_returning:
        why = f"{_cause(rollout)}; {counts.devices_returning} devices still run {rollout.release.version}"
        return replace(rollout, why=why)
    # A device that went live a moment ago has not said so yet; by its next poll it has.
    settled = (rollout.turned_back or now) + timedelta(seconds=poll_interval_s)
    if now < settled:
        return replace(rollout, why=f"{_cause(rollout)}; waiting for every device's next poll")
    # By another rollout devices may well run it: this one speaks only of its own.
    ending = f"no device runs {rollout.release.version} because of it any more"
    if counts.devices_stranded:
        ending = (
            f"{counts.devices_stranded} devices keep {rollout.release.version}, because their cohort "
            "has no other release to return to"
        )
    return replace(rollout, state=RolloutState.ROLLED_BACK, why=f"{_cause(rollout)}; {ending}", ended=now)


def _cause(rollout: Rollout) -> str:
    return rollout.why.partition("; ")[0]


def start(rollout: Rollout, now: datetime) -> Rollout:
    """Begin the first stage.

    Raises:
        IllegalTransitionError: Not a draft, or not approved yet.
    """
    _require(rollout, "start", RolloutState.DRAFT)
    if rollout.requires_approval and not rollout.approved_by:
        raise IllegalTransitionError(
            f"rollout {rollout.id} needs the approval of somebody other than {rollout.created_by} first"
        )
    running = replace(rollout, state=RolloutState.RUNNING, started=now)
    return _begin_stage(running, 0, rollout.stages[0].percent_bp, now)


def approve(rollout: Rollout, by: str) -> Rollout:
    """Record a second person's consent.

    Raises:
        ForbiddenError: The creator cannot approve.
        IllegalTransitionError: Not a draft.
    """
    _require(rollout, "approve", RolloutState.DRAFT)
    if by == rollout.created_by:
        raise ForbiddenError(f"{by} created rollout {rollout.id}; somebody else has to approve it")
    return replace(rollout, approved_by=by, why=f"approved by {by}, waiting to be started")


def pause(rollout: Rollout, by: str) -> Rollout:
    """Keep devices where they are: no further one starts, none returns."""
    _require(rollout, "pause", RolloutState.RUNNING)
    return replace(rollout, state=RolloutState.PAUSED, why=f"paused by {by}")


def resume(rollout: Rollout, now: datetime) -> Rollout:
    """Go on with the stage; its soak time begins anew, since a pause proves nothing."""
    _require(rollout, "resume", RolloutState.PAUSED)
    stage = rollout.stages[rollout.stage]
    if stage.state is not StageState.PASSED:
        rollout = _with_stage(rollout, replace(stage, state=StageState.RUNNING, began=now))
    return replace(rollout, state=RolloutState.RUNNING, why="resumed")


def halt(rollout: Rollout, by: str) -> Rollout:
    """Stop for good; devices stay as they are until `roll_back`."""
    _require(rollout, "halt", RolloutState.RUNNING, RolloutState.PAUSED)
    why = f"halted by {by}; roll it back to return its devices"
    return replace(_failed(rollout), state=RolloutState.HALTED, why=why)


def roll_back(rollout: Rollout, by: str, now: datetime) -> Rollout:
    """Send the devices back to what they would run without this rollout."""
    if rollout.state is RolloutState.COMPLETED:
        raise IllegalTransitionError(
            f"rollout {rollout.id} is completed; to go back, roll out the earlier release"
        )
    _require(rollout, "roll back", RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.HALTED)
    return _turned_back(_failed(rollout), now, f"rolled back by {by}")


def abort(rollout: Rollout, by: str, now: datetime) -> Rollout:
    """Drop a draft."""
    if rollout.state in (RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.HALTED):
        raise IllegalTransitionError(
            f"rollout {rollout.id} has reached devices; roll it back instead of aborting it"
        )
    _require(rollout, "abort", RolloutState.DRAFT)
    return replace(rollout, state=RolloutState.ABORTED, why=f"aborted by {by}", ended=now)


def set_percent(rollout: Rollout, percent_bp: int, by: str, now: datetime) -> Rollout:
    """Widen by hand, past stages if need be.

    Raises:
        IllegalTransitionError: Not running, or not a raise.
    """
    _require(rollout, "set the percentage of", RolloutState.RUNNING)
    if not rollout.percent_bp < percent_bp <= BUCKETS:
        raise IllegalTransitionError(
            f"rollout {rollout.id} is at {_percent(rollout.percent_bp)} and can only be raised (to at most "
            "100 %); devices that have the candidate return only by rolling it back"
        )
    reached = max(
        index
        for index, stage in enumerate(rollout.stages)
        if index <= rollout.stage or stage.percent_bp <= percent_bp
    )
    if reached == rollout.stage:
        return replace(rollout, percent_bp=percent_bp, why=f"raised to {_percent(percent_bp)} by {by}")
    return _begin_stage(rollout, reached, percent_bp, now)


def _begin_stage(rollout: Rollout, index: int, percent_bp: int, now: datetime) -> Rollout:
    stages = tuple(
        replace(stage, state=StageState.RUNNING, began=now)
        if position == index
        else replace(stage, state=StageState.PASSED)
        if position < index
        else stage
        for position, stage in enumerate(rollout.stages)
    )
    why = f"stage {index + 1} of {len(stages)} began at {_percent(percent_bp)}"
    return replace(rollout, stages=stages, stage=index, percent_bp=percent_bp, why=why)


def _halted(rollout: Rollout, why: str) -> Rollout:
    return replace(_failed(rollout), state=RolloutState.HALTED, why=why, returns=True)


def _turned_back(rollout: Rollout, now: datetime, why: str) -> Rollout:
    return replace(rollout, state=RolloutState.ROLLING_BACK, why=why, turned_back=now)


def _failed(rollout: Rollout) -> Rollout:
    return _with_stage(rollout, replace(rollout.stages[rollout.stage], state=StageState.FAILED))


def _with_stage(rollout: Rollout, stage: Stage) -> Rollout:
    stages = list(rollout.stages)
    stages[rollout.stage] = stage
    return replace(rollout, stages=tuple(stages))


def _require(rollout: Rollout, action: str, *states: RolloutState) -> None:
    if rollout.state not in states:
        allowed = " or ".join(state.value for state in states)
        raise IllegalTransitionError(
            f"cannot {action} rollout {rollout.id}: it is {rollout.state.value}, not {allowed}"
        )


def _percent(percent_bp: int) -> str:
    return f"{percent_bp / 100:g} %"
