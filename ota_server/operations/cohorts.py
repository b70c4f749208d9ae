"""Cohorts: named rules over devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ota_contract.conditions import EVERYONE, Condition, parse_condition
from ota_contract.device import condition_attributes
from ota_contract.names import check_name
from ota_server.domain.access import Principal, Role
from ota_server.domain.policies import EVERYONE_NAME
from ota_server.domain.rollout import HOLDING
from ota_server.errors import InUseError, NotFoundError
from ota_server.operations.ports import DeviceRecord, Records, Services

__all__ = ["Preview", "cohort_rule", "list_cohorts", "preview", "preview_named", "put_cohort"]

_READERS = (Role.FLEET_MANAGER, Role.VIEWER)
_EXAMPLES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """How many known devices a rule selects, and some of them."""

    matching: int
    total: int
    devices: tuple[str, ...]


def list_cohorts(services: Services, principal: Principal) -> Mapping[str, Condition]:
    """Every cohort with its rule, `everyone` among them."""
    principal.require(*_READERS)
    with services.registry.read() as records:
        return {EVERYONE_NAME: EVERYONE, **records.cohorts.all()}


def put_cohort(services: Services, principal: Principal, name: str, rule: object) -> Condition:
    """Create or change a cohort.

    Raises:
        ConditionError: The rule cannot be evaluated safely.
        InUseError: `everyone`, or a rollout under way would change whom it means.
    """
    principal.require(Role.FLEET_MANAGER)
    check_name(name, what="cohort")
    condition = parse_condition(rule)
    if name == EVERYONE_NAME:
        raise InUseError(f"cohort {EVERYONE_NAME} always means every device; choose another name")
    with services.registry.write() as records:
        if records.cohorts.all().get(name) != condition:
            for rollout in records.rollouts.all(states=HOLDING):
                if rollout.cohort == name:
                    raise InUseError(
                        f"rollout {rollout.id} is moving cohort {name}; change it when that has ended"
                    )
            records.cohorts.put(name, condition)
    return condition


def preview(services: Services, principal: Principal, rule: object) -> Preview:
    """Evaluate a rule on every known device.

    Raises:
        ConditionError: The rule cannot be evaluated safely.
    """
    principal.require(*_READERS)
    condition = parse_condition(rule)
    with services.registry.read() as records:
        return _preview(condition, records.devices.all())


def preview_named(services: Services, principal: Principal, name: str) -> Preview:
    """Evaluate a cohort on every known device.

    Raises:
        NotFoundError: There is no such cohort.
    """
    principal.require(*_READERS)
    with services.registry.read() as records:
        return _preview(cohort_rule(records, name), records.devices.all())


def cohort_rule(records: Records, name: str) -> Condition:
    """The rule of a cohort.

    Raises:
        NotFoundError: There is no such cohort.
    """
    if name == EVERYONE_NAME:
        return EVERYONE
    condition = records.cohorts.all().get(name)
    if condition is None:
        raise NotFoundError(f"there is no cohort {name!r}; `ferry cohort list` shows them")
    return condition


def _preview(condition: Condition, devices: Sequence[DeviceRecord]) -> Preview:
    matching = [
        device.attributes.device_id
        for device in devices
        if condition.matches(condition_attributes(device.attributes))
    ]
    return Preview(matching=len(matching), total=len(devices), devices=tuple(matching[:_EXAMPLES]))
