"""From rollouts to the policy devices obey, and from the policy to who is meant by a rollout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ota_contract.assignment import Arm, assign
from ota_contract.conditions import EVERYONE, Condition
from ota_contract.device import Attributes, condition_attributes
from ota_contract.names import ModelName
from ota_contract.policy import Policy, ReleaseRef, Rule
from ota_server.domain.rollout import HOLDING, Rollout, RolloutState

__all__ = ["EVERYONE_NAME", "FleetView", "base_below", "baselines", "make_policy", "view_fleet"]

EVERYONE_NAME = "everyone"
"""The cohort that always exists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """How many known devices a rollout means, and where they stand against the policy."""

    total: int
    targeted: int
    returning: int
    stranded: int


def baselines(rollouts: Iterable[Rollout]) -> tuple[Rollout, ...]:
    """A model's completed rollouts that still decide something, the newest first.

    Only the newest of each cohort counts, and nothing behind one of everybody is ever reached.
    """
    completed = [item for item in rollouts if item.state is RolloutState.COMPLETED and item.ended]
    completed.sort(key=lambda item: (item.ended, item.id), reverse=True)
    kept: list[Rollout] = []
    for item in completed:
        if item.cohort not in {other.cohort for other in kept}:
            kept.append(item)
        if item.cohort == EVERYONE_NAME:
            break
    return tuple(kept)


def base_below(rollouts: Iterable[Rollout], cohort: str) -> ReleaseRef | None:
    """The one release the policy gives all devices of a cohort, or None where it is not one.

    None sends the devices a rollout does not take to the rules below, which know better than one
    base could: a device of two cohorts must not be moved back by a rollout of the wider one.
    """
    found: set[ReleaseRef] = set()
    for item in baselines(rollouts):
        found.add(item.release)
        if item.cohort in (cohort, EVERYONE_NAME):
            return found.pop() if len(found) == 1 else None
    return None


def make_policy(
    name: ModelName,
    rollouts: Iterable[Rollout],
    cohorts: Mapping[str, Condition],
    *,
    poll_interval_s: int,
) -> Policy:
    """A model's policy, at revision 0: rollouts under way, the newest first, then completed ones.

    The repository gives the revision when it publishes.
    """
    mine = [item for item in rollouts if item.name == name]
    holding = [item for item in mine if item.state in HOLDING]
    holding.sort(key=lambda item: (item.created, item.id), reverse=True)
    asked = [item.poll_interval_s for item in holding if item.poll_interval_s is not None]
    return Policy(
        name=name,
        revision=0,
        poll_interval_s=min(asked, default=poll_interval_s),
        rules=(
            *(_moving(item, cohorts) for item in holding),
            *(_settled(item, cohorts) for item in baselines(mine)),
        ),
    )


def view_fleet(
    rollout: Rollout, policy: Policy, condition: Condition, fleet: Sequence[tuple[Attributes, str]]
) -> FleetView:
    """Who a rollout means among known devices.

    Args:
        rollout: The rollout.
        policy: Its model's policy as of now.
        condition: Its cohort's rule.
        fleet: Every known device with the model's version live on it.
    """
    # Who is meant does not change while a rollout is paused, only who starts.
    thawed = replace(policy, rules=tuple(replace(rule, frozen=False) for rule in policy.rules))
    total = targeted = returning = stranded = 0
    for device, live in fleet:
        if not condition.matches(condition_attributes(device)):
            continue
        total += 1
        assignment = assign(thawed, device, live_version=live)
        if assignment.rollout == rollout.id and assignment.arm is Arm.CANDIDATE:
            targeted += 1
        elif live == rollout.release.version:
            if assignment.release is None:
                stranded += 1
            elif assignment.release.version != live:
                returning += 1
    return FleetView(total=total, targeted=targeted, returning=returning, stranded=stranded)


def _condition(item: Rollout, cohorts: Mapping[str, Condition]) -> Condition:
    return EVERYONE if item.cohort == EVERYONE_NAME else cohorts[item.cohort]


def _moving(item: Rollout, cohorts: Mapping[str, Condition]) -> Rule:
    return Rule(
        cohort=item.cohort,
        condition=_condition(item, cohorts),
        base=item.base,
        candidate=item.release,
        rollout=item.id,
        strategy=item.strategy,
        salt=item.id,
        threshold_bp=item.percent_bp,
        frozen=item.state is not RolloutState.RUNNING,
        trial=item.trial,
    )


def _settled(item: Rollout, cohorts: Mapping[str, Condition]) -> Rule:
    return Rule(
        cohort=item.cohort,
        condition=_condition(item, cohorts),
        base=item.release,
        trial=item.trial,
    )
