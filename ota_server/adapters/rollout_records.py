"""Rollouts and cohorts in the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, delete, insert, select

from ota_contract.conditions import Condition, parse_condition
from ota_contract.names import ModelName
from ota_server.adapters.database import cohorts, rollouts
from ota_server.adapters.rollout_documents import rollout_from_json, rollout_to_json
from ota_server.domain.rollout import Rollout, RolloutState

__all__ = ["SqlCohorts", "SqlRollouts"]


class SqlCohorts:
    """See `operations.ports.Cohorts`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> Mapping[str, Condition]:
        """Every cohort but `everyone`."""
        rows = self._connection.execute(select(cohorts).order_by(cohorts.c.name)).mappings()
        return {row["name"]: parse_condition(row["condition"]) for row in rows}

    def put(self, name: str, condition: Condition) -> None:
        """Create or change one."""
        self._connection.execute(delete(cohorts).where(cohorts.c.name == name))
        self._connection.execute(insert(cohorts).values(name=name, condition=dict(condition.rule)))


class SqlRollouts:
    """See `operations.ports.Rollouts`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def models(self) -> Sequence[ModelName]:
        """The models that have rollouts."""
        query = select(rollouts.c.publisher, rollouts.c.model).distinct()
        return sorted(ModelName(publisher, model) for publisher, model in self._connection.execute(query))

    def all(
        self, name: ModelName | None = None, states: Iterable[RolloutState] | None = None
    ) -> Sequence[Rollout]:
        """Rollouts, the newest first."""
        query = select(rollouts.c.document).order_by(rollouts.c.created.desc(), rollouts.c.id.desc())
        if name is not None:
            query = query.where(rollouts.c.publisher == name.publisher, rollouts.c.model == name.model)
        if states is not None:
            query = query.where(rollouts.c.state.in_([state.value for state in states]))
        return [rollout_from_json(document) for document in self._connection.execute(query).scalars()]

    def find(self, rollout_id: str) -> Rollout | None:
        """One rollout."""
        query = select(rollouts.c.document).where(rollouts.c.id == rollout_id)
        document = self._connection.execute(query).scalar()
        return None if document is None else rollout_from_json(document)

    def save(self, rollout: Rollout) -> None:
        """Insert or replace one."""
        self._connection.execute(delete(rollouts).where(rollouts.c.id == rollout.id))
        self._connection.execute(
            insert(rollouts).values(
                id=rollout.id,
                publisher=rollout.name.publisher,
                model=rollout.name.model,
                state=rollout.state.value,
                created=rollout.created,
                document=rollout_to_json(rollout),
            )
        )
