"""Device reports in the database: one row each, counts derived from the rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import sqlite

from ota_contract.assignment import Arm
from ota_contract.documents import reader_of
from ota_contract.report import Report, Transition, UpdateState, report_from, report_to_json
from ota_server.adapters.database import reports
from ota_server.domain.rollout import ArmCounts, Rollout
from ota_server.operations.ports import ReportCounts

__all__ = ["SqlReports"]

_BEGAN = tuple(
    state.value for state in UpdateState if state not in (UpdateState.OFFERED, UpdateState.INCOMPATIBLE)
)
"""States that say a device took the candidate in hand."""
_FAILED = (UpdateState.FAILED.value, UpdateState.ROLLED_BACK.value)


class SqlReports:
    """See `operations.ports.Reports`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, device_id: str, new: Sequence[Report], now: datetime) -> int:
        """Keep those not known yet; the unique index, not a look beforehand, tells which."""
        if not new:
            return 0
        statement = sqlite.insert(reports).on_conflict_do_nothing(index_elements=["device", "id"])
        before = self._total(device_id)
        self._connection.execute(statement, [_row(device_id, report, now) for report in new])
        return self._total(device_id) - before

    def counts(self, rollout: Rollout) -> ReportCounts:
        """Add up a rollout's reports."""
        arms = self._arms(rollout)
        latest = self._latest_states(rollout)
        return ReportCounts(
            devices_exposed=len(latest),
            devices_healthy=sum(state == UpdateState.HEALTHY.value for state in latest),
            devices_failed=sum(state in _FAILED for state in latest),
            candidate=arms.get(Arm.CANDIDATE.value, ArmCounts()),
            control=arms.get(Arm.CONTROL.value, ArmCounts()),
        )

    def of_device(self, device_id: str, most: int) -> Sequence[Report]:
        """A device's latest reports, the newest first."""
        query = (
            select(reports.c.document)
            .where(reports.c.device == device_id)
            .order_by(reports.c.at.desc(), reports.c.number.desc())
            .limit(most)
        )
        documents = self._connection.execute(query).scalars()
        return [report_from(reader_of(document, what="stored report")) for document in documents]

    def _total(self, device_id: str) -> int:
        query = select(func.count()).select_from(reports).where(reports.c.device == device_id)
        return int(self._connection.execute(query).scalar_one())

    def _arms(self, rollout: Rollout) -> dict[str, ArmCounts]:
        query = (
            select(reports.c.arm, func.sum(reports.c.inferences), func.sum(reports.c.errors))
            .where(reports.c.rollout == rollout.id, reports.c.state.is_(None))
            .group_by(reports.c.arm)
        )
        return {
            arm: ArmCounts(inferences=int(inferences), errors=int(errors))
            for arm, inferences, errors in self._connection.execute(query)
        }

    def _latest_states(self, rollout: Rollout) -> list[str]:
        """The last state each exposed device reached; a retry that succeeds makes up for a failure."""
        place = (
            func.row_number()
            .over(partition_by=reports.c.device, order_by=(reports.c.at.desc(), reports.c.number.desc()))
            .label("place")
        )
        transitions = (
            select(reports.c.state, place)
            .where(
                reports.c.rollout == rollout.id,
                reports.c.arm == Arm.CANDIDATE.value,
                reports.c.state.in_(_BEGAN),
            )
            .subquery()
        )
        query = select(transitions.c.state).where(transitions.c.place == 1)
        return list(self._connection.execute(query).scalars())


def _row(device_id: str, report: Report, now: datetime) -> dict[str, Any]:
    content = report.content
    return {
        "device": device_id,
        "id": report.id,
        "rollout": report.rollout,
        "arm": report.arm.value,
        "state": content.state.value if isinstance(content, Transition) else None,
        "at": content.at if isinstance(content, Transition) else content.ended,
        "inferences": 0 if isinstance(content, Transition) else content.inferences,
        "errors": 0 if isinstance(content, Transition) else content.errors,
        "received": now,
        "document": report_to_json(report),
    }
