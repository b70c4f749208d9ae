"""Devices: enrolment, what they report, and what a fleet manager says of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from ota_contract.device import Attributes, condition_attributes
from ota_contract.errors import FormatError
from ota_contract.names import check_device_id
from ota_contract.report import Batch, Report
from ota_server.domain.access import Principal, Role
from ota_server.errors import DeviceExistsError, ForbiddenError, NotFoundError
from ota_server.operations.access import issue
from ota_server.operations.cohorts import cohort_rule
from ota_server.operations.ports import DeviceRecord, Records, Services

__all__ = ["enrol", "forget", "history", "list_devices", "receive", "show_device", "tag"]

_READERS = (Role.FLEET_MANAGER, Role.VIEWER)
_MAX_TAGS = 64
_MAX_TAG = 64
_HISTORY = 50


def enrol(services: Services, principal: Principal, attributes: Attributes) -> str:
    """Register a device; returns its own token, which is seen only now.

    Raises:
        DeviceExistsError: The id is enrolled: whoever asks may not be that device.
    """
    principal.require(Role.ENROLMENT)
    device_id = attributes.device_id
    with services.registry.write() as records:
        if records.devices.find(device_id) is not None:
            raise DeviceExistsError(
                f"device {device_id} is enrolled; `ferry device forget {device_id}` lets it enrol anew"
            )
        records.devices.add(DeviceRecord(attributes=attributes, enrolled=services.clock()))
        owner = Principal(name=f"device:{device_id}", role=Role.DEVICE, device=device_id)
        return issue(records, owner, services.clock)


def receive(services: Services, principal: Principal, batch: Batch) -> tuple[int, tuple[str, ...]]:
    """Keep what a device reports; returns how many reports were new, and the device's tags.

    Raises:
        ForbiddenError: The batch speaks for another device.
    """
    principal.require(Role.DEVICE)
    device_id = batch.device.device_id
    if principal.device != device_id:
        raise ForbiddenError(f"{principal.device} cannot report for {device_id}")
    now = services.clock()
    with services.registry.write() as records:
        records.devices.saw(batch.device, batch.live, now)
        accepted = records.reports.add(device_id, batch.reports, now)
        return accepted, _device(records, device_id).attributes.tags


def list_devices(
    services: Services, principal: Principal, *, cohort: str | None, limit: int, after: str
) -> Sequence[DeviceRecord]:
    """Devices by id, behind `after`, of one cohort or all.

    Raises:
        NotFoundError: There is no such cohort.
    """
    principal.require(*_READERS)
    with services.registry.read() as records:
        if cohort is None:
            return records.devices.all(after=after, most=limit)
        rule = cohort_rule(records, cohort)
        devices = records.devices.all(after=after)
    chosen = (device for device in devices if rule.matches(condition_attributes(device.attributes)))
    return list(islice(chosen, limit))


def show_device(services: Services, principal: Principal, device_id: str) -> DeviceRecord:
    """One device.

    Raises:
        NotFoundError: It has not enrolled.
    """
    principal.require(*_READERS)
    with services.registry.read() as records:
        return _device(records, device_id)


def history(services: Services, principal: Principal, device_id: str) -> Sequence[Report]:
    """A device's latest reports, the newest first."""
    principal.require(*_READERS)
    with services.registry.read() as records:
        return records.reports.of_device(device_id, _HISTORY)


def tag(services: Services, principal: Principal, device_id: str, tags: Sequence[str]) -> DeviceRecord:
    """Replace a device's tags; it hears of them with its next report.

    Raises:
        NotFoundError: It has not enrolled.
        FormatError: Too many tags, or one too long.
    """
    principal.require(Role.FLEET_MANAGER)
    wanted = tuple(sorted(set(tags)))
    if len(wanted) > _MAX_TAGS or not all(
        0 < len(item) <= _MAX_TAG and item.isprintable() for item in wanted
    ):
        raise FormatError(f"tags: at most {_MAX_TAGS} of 1 to {_MAX_TAG} printable characters each")
    with services.registry.write() as records:
        _device(records, device_id)
        records.devices.tag(device_id, wanted)
        return _device(records, device_id)


def forget(services: Services, principal: Principal, device_id: str) -> None:
    """Remove a device and its token; what it reported still counts.

    Raises:
        NotFoundError: It has not enrolled.
    """
    principal.require(Role.FLEET_MANAGER)
    with services.registry.write() as records:
        _device(records, device_id)
        records.devices.remove(device_id)


def _device(records: Records, device_id: str) -> DeviceRecord:
    record = records.devices.find(check_device_id(device_id))
    if record is None:
        raise NotFoundError(f"device {device_id} has not enrolled; `ferry device list` shows who has")
    return record
