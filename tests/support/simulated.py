"""Devices that only report: they obey the published policy as the contract says, and send real batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from ota_contract.assignment import Arm, assign
from ota_contract.device import Attributes, attributes_to_json
from ota_contract.names import ModelName, parse_model
from ota_contract.policy import Policy
from ota_contract.report import Batch, Report, Transition, UpdateState, Window, dump_batch
from tests.support.calls import Answer, Caller
from tests.support.fleet import TestServer

__all__ = ["NOON", "Simulated", "enrol_fleet", "transition", "window"]

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
DIGITS = parse_model("vision/digits")


def transition(
    report_id: str,
    state: UpdateState,
    *,
    rollout: str = "",
    arm: Arm = Arm.CANDIDATE,
    version: str = "1.1.0",
    at: datetime = NOON,
) -> Report:
    """An update reached a state."""
    content = Transition(state=state, at=at)
    return Report(id=report_id, name=DIGITS, version=version, content=content, rollout=rollout, arm=arm)


def window(
    report_id: str,
    inferences: int,
    errors: int = 0,
    *,
    rollout: str = "",
    arm: Arm = Arm.CANDIDATE,
    version: str = "1.1.0",
) -> Report:
    """Counts of some predictions."""
    content = Window(started=NOON, ended=NOON, inferences=inferences, errors=errors)
    return Report(id=report_id, name=DIGITS, version=version, content=content, rollout=rollout, arm=arm)


@dataclass(slots=True, kw_only=True)
class Simulated:
    """One device."""

    attributes: Attributes
    call: Caller
    live: dict[ModelName, str] = field(default_factory=dict)
    error_every: int = 0
    """Each so-manieth inference of a candidate fails; 0: none."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def id(self) -> str:
        """Its id."""
        return self.attributes.device_id

    def send(self, *reports: Report) -> Answer:
        """Send one batch."""
        batch = Batch(device=self.attributes, live=self.live, reports=reports)
        return self.call("POST", "reports", raw=dump_batch(batch))

    def next_id(self) -> str:
        """An id no report of this device had."""
        return f"r{next(self._numbers)}"

    def obey(self, policy: Policy, *, inferences: int = 20) -> str:
        """One poll: install what the policy says, use it, report it; returns the live version."""
        assigned = assign(policy, self.attributes, live_version=self.live.get(policy.name, ""))
        reports = []
        if assigned.release is not None and assigned.release.version != self.live.get(policy.name):
            self.live[policy.name] = assigned.release.version
            for state in (UpdateState.DOWNLOADING, UpdateState.LIVE_ON_TRIAL, UpdateState.HEALTHY):
                report = transition(self.next_id(), state, rollout=assigned.rollout, arm=assigned.arm)
                reports.append(replace(report, version=assigned.release.version))
        version = self.live.get(policy.name, "")
        if version:
            failing = assigned.arm is Arm.CANDIDATE and self.error_every
            errors = inferences // self.error_every if failing else 0
            report = window(self.next_id(), inferences, errors, rollout=assigned.rollout, arm=assigned.arm)
            reports.append(replace(report, version=version))
        answer = self.send(*reports)
        assert answer.status == 200, answer
        self.attributes = replace(self.attributes, tags=tuple(answer.json["tags"]))
        return version


def enrol_fleet(server: TestServer, ids: Iterable[str], **attributes: object) -> list[Simulated]:
    """Enrol devices over HTTP."""
    enrolment = Caller(server.url, server.tokens["enrolment"])
    fleet = []
    for device_id in ids:
        device = replace(Attributes(device_id=device_id), **attributes)  # type: ignore[arg-type]
        answer = enrolment("POST", "devices", attributes_to_json(device))
        assert answer.status == 201, answer
        fleet.append(Simulated(attributes=device, call=Caller(server.url, answer.json["token"])))
    return fleet
