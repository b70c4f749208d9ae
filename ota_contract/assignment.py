"""Which release a device runs, as a pure function of the signed policy and the device.

The device evaluates it from signed metadata, so a poll is a static file; the server evaluates the same
function for previews and for telling candidate from control.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ota_contract.bucketing import bucket
from ota_contract.device import Attributes, condition_attributes
from ota_contract.policy import STANDARD_TRIAL, Policy, ReleaseRef, Rule, Strategy, Trial

__all__ = ["Arm", "Assignment", "assign"]


_TAKES_OVER = (Strategy.RECREATE, Strategy.CANARY)
"""Strategies in which the candidate answers. Under one this code does not run, a device stays on the base:
a release that was only to be watched must never answer instead.
"""


class Arm(Enum):
    """A device's part in a rollout."""

    CANDIDATE = "candidate"
    CONTROL = "control"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a device should run, and why."""

    release: ReleaseRef | None
    """None: leave whatever runs in place."""
    arm: Arm
    reason: str
    rollout: str = ""
    cohort: str = ""
    trial: Trial = STANDARD_TRIAL


def assign(policy: Policy, device: Attributes, *, live_version: str = "") -> Assignment:
    """Evaluate a policy for one device.

    For a given salt, raising `threshold_bp` only ever adds devices to the candidate, because a device's
    bucket does not change.

    Args:
        policy: The model's policy.
        device: The device's attributes and tags.
        live_version: What the device runs now; only a frozen rule looks at it.
    """
    attributes = condition_attributes(device)
    for rule in policy.rules:
        if rule.condition.matches(attributes):
            assignment = _by_rule(rule, device, live_version)
            if assignment is not None:
                return assignment
    return Assignment(release=None, arm=Arm.NONE, reason="no cohort of the policy matches")


def _by_rule(rule: Rule, device: Attributes, live_version: str) -> Assignment | None:
    base = _base(rule)
    if rule.candidate is None or rule.strategy not in _TAKES_OVER:
        return base
    number = bucket(rule.salt, device.device_id)
    if number >= rule.threshold_bp:
        comparison = f"bucket {number} is not below {rule.threshold_bp}"
        return base and _in_arm(base, rule, Arm.CONTROL, f"{rule.rollout}: {comparison}")
    if rule.frozen and live_version != rule.candidate.version:
        return base and _in_arm(base, rule, Arm.NONE, f"{rule.rollout}: no further device starts")
    return Assignment(
        release=rule.candidate,
        arm=Arm.CANDIDATE,
        reason=f"{rule.rollout}: bucket {number} is below {rule.threshold_bp}",
        rollout=rule.rollout,
        cohort=rule.cohort,
        trial=rule.trial,
    )


def _base(rule: Rule) -> Assignment | None:
    if rule.base is None:
        return None
    return Assignment(
        release=rule.base,
        arm=Arm.NONE,
        reason=f"cohort {rule.cohort} is on {rule.base.version}",
        cohort=rule.cohort,
        trial=rule.trial,
    )


def _in_arm(base: Assignment, rule: Rule, arm: Arm, reason: str) -> Assignment:
    return Assignment(
        release=base.release,
        arm=arm,
        reason=reason,
        rollout=rule.rollout,
        cohort=rule.cohort,
        trial=rule.trial,
    )
