"""Device reports in the database: one row each, counts derived from the rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select

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
        """Keep those not known yet; within the exclusive transaction a look beforehand tells which."""
        ids = {report.id for report in new}
        query = select(reports.c.id).where(reports.c.device == device_id, reports.c.id.in_(ids))
        known = set(self._connection.execute(query).scalars())
        rows = []
        for report in new:
            if report.id not in known:
                known.add(report.id)  # a batch may hold one twice
                rows.append(_row(device_id, report, now))
        if rows:
            self._connection.execute(insert(reports), rows)
        return len(rows)

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
            .order_by(reports.c.number.desc())
            .limit(most)
        )
        documents = self._connection.execute(query).scalars()
        return [report_from(reader_of(document, what="stored report")) for document in documents]

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
        """The last state each exposed device reached; a retry that succeeds makes up for a failure.

        The last to arrive, not the latest by the device's clock: NTP sets clocks back in mid-update.
        """
        last = (
            select(func.max(reports.c.number))
            .where(
                reports.c.rollout == rollout.id,
                reports.c.arm == Arm.CANDIDATE.value,
                reports.c.state.in_(_BEGAN),
            )
            .group_by(reports.c.device)
        )
        query = select(reports.c.state).where(reports.c.number.in_(last))
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
