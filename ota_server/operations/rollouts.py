"""What people do with rollouts. What follows by itself is `operations.reconciler`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from ota_contract.names import ModelName, check_name
from ota_contract.policy import STANDARD_TRIAL, Strategy, Trial
from ota_server.domain import lifecycle
from ota_server.domain.access import Principal, Role
from ota_server.domain.policies import base_below
from ota_server.domain.release import ReleaseRecord
from ota_server.domain.rollout import OPEN, Guard, Rollout, Stage, check_plan
from ota_server.errors import NotFoundError, RolloutConflictError, RolloutRefusedError
from ota_server.operations.cohorts import cohort_rule
from ota_server.operations.ports import Records, Services
from ota_server.operations.reconciler import reconcile_model
from ota_server.operations.releases import published

__all__ = ["Action", "Plan", "act", "create", "find", "list_rollouts", "set_percent"]

_READERS = (Role.FLEET_MANAGER, Role.VIEWER)


class Action(Enum):
    """What a person may do to a rollout."""

    START = "start"
    APPROVE = "approve"
    PAUSE = "pause"
    RESUME = "resume"
    HALT = "halt"
    ROLLBACK = "rollback"
    ABORT = "abort"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a fleet manager asks for."""

    name: ModelName
    version: str
    cohort: str
    strategy: Strategy
    stages: tuple[Stage, ...]
    guard: Guard
    trial: Trial = STANDARD_TRIAL
    auto_advance: bool = True
    poll_interval_s: int | None = None
    requires_approval: bool = False


def create(services: Services, principal: Principal, plan: Plan) -> Rollout:
    """Draft a rollout; no device is affected.

    Raises:
        RolloutRefusedError: It could not work.
        RolloutConflictError: Another open rollout holds the model's cohort.
        NotFoundError: No such release or cohort.
    """
    principal.require(Role.FLEET_MANAGER)
    check_name(plan.cohort, what="cohort")
    stages = check_plan(plan.strategy, plan.stages, plan.guard)
    with services.registry.write() as records:
        release = published(records, plan.name, plan.version)
        _check_release(records, release)
        cohort_rule(records, plan.cohort)
        _check_free(records, plan)
        rollout = Rollout(
            id=f"ro-{secrets.token_hex(5)}",
            name=plan.name,
            release=release.ref,
            base=base_below(records.rollouts.all(plan.name), plan.cohort),
            cohort=plan.cohort,
            strategy=plan.strategy,
            stages=stages,
            guard=plan.guard,
            trial=plan.trial,
            auto_advance=plan.auto_advance,
            poll_interval_s=plan.poll_interval_s,
            requires_approval=plan.requires_approval,
            created=services.clock(),
            created_by=principal.name,
        )
        if plan.requires_approval:
            rollout = replace(
                rollout, why=f"waiting for the approval of somebody other than {principal.name}"
            )
        records.rollouts.save(rollout)
    return rollout


def act(services: Services, principal: Principal, rollout_id: str, action: Action) -> Rollout:
    """Do something to a rollout; the policy devices read is changed on return.

    Raises:
        IllegalTransitionError: Its state does not admit it.
        NotFoundError: There is no such rollout.
    """
    step = _STEPS[action]
    return _change(
        services, principal, rollout_id, lambda records, it, now: step(records, it, principal.name, now)
    )


def set_percent(services: Services, principal: Principal, rollout_id: str, percent_bp: int) -> Rollout:
    """Widen a rollout by hand.

    Raises:
        IllegalTransitionError: Not running, or not a raise.
        NotFoundError: There is no such rollout.
    """
    return _change(
        services,
        principal,
        rollout_id,
        lambda _, it, now: lifecycle.set_percent(it, percent_bp, principal.name, now),
    )


def find(services: Services, principal: Principal, rollout_id: str) -> Rollout:
    """One rollout.

    Raises:
        NotFoundError: There is none of that id.
    """
    principal.require(*_READERS)
    with services.registry.read() as records:
        return _find(records, rollout_id)


def list_rollouts(services: Services, principal: Principal, name: ModelName | None) -> Sequence[Rollout]:
    """Rollouts, the newest first."""
    principal.require(*_READERS)
    with services.registry.read() as records:
        return records.rollouts.all(name)


_Step = Callable[[Records, Rollout, str, datetime], Rollout]


def _start(records: Records, rollout: Rollout, by: str, now: datetime) -> Rollout:
    del by
    _check_release(records, published(records, rollout.name, rollout.release.version))
    # Between draft and start another rollout may have changed what the cohort runs.
    base = base_below(records.rollouts.all(rollout.name), rollout.cohort)
    return lifecycle.start(replace(rollout, base=base), now)


_STEPS: dict[Action, _Step] = {
    Action.START: _start,
    Action.APPROVE: lambda _, it, by, __: lifecycle.approve(it, by),
    Action.PAUSE: lambda _, it, by, __: lifecycle.pause(it, by),
    Action.RESUME: lambda _, it, __, now: lifecycle.resume(it, now),
    Action.HALT: lambda _, it, by, __: lifecycle.halt(it, by),
    Action.ROLLBACK: lambda _, it, by, now: lifecycle.roll_back(it, by, now),
    Action.ABORT: lambda _, it, by, now: lifecycle.abort(it, by, now),
}


def _change(
    services: Services,
    principal: Principal,
    rollout_id: str,
    change: Callable[[Records, Rollout, datetime], Rollout],
) -> Rollout:
    principal.require(Role.FLEET_MANAGER)
    with services.registry.write() as records:
        changed = change(records, _find(records, rollout_id), services.clock())
        records.rollouts.save(changed)
        reconcile_model(services, records, changed.name)
        return _find(records, rollout_id)


def _find(records: Records, rollout_id: str) -> Rollout:
    rollout = records.rollouts.find(rollout_id)
    if rollout is None:
        raise NotFoundError(f"there is no rollout {rollout_id!r}; `ferry rollout status` lists them")
    return rollout


def _check_release(records: Records, release: ReleaseRecord) -> None:
    if release.withdrawn:
        raise RolloutRefusedError(f"{release.name} {release.version} is withdrawn; roll out another release")
    floor = max(other.floor for other in records.releases.all(release.name))
    if release.counter < floor:
        raise RolloutRefusedError(
            f"{release.name} {release.version} (counter {release.counter}) is below the floor {floor}: "
            "devices would refuse it"
        )


def _check_free(records: Records, plan: Plan) -> None:
    for other in records.rollouts.all(plan.name, states=OPEN):
        if other.cohort == plan.cohort:
            raise RolloutConflictError(
                f"rollout {other.id} ({other.state.value}, {other.release.version}) already moves cohort "
                f"{plan.cohort} of {plan.name}; end it first"
            )
