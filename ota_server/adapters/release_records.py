"""Releases and blob claims in the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from ota_contract.names import ModelName
from ota_server.adapters.database import claims, releases
from ota_server.domain.release import ReleaseRecord

__all__ = ["SqlClaims", "SqlReleases"]


class SqlReleases:
    """See `operations.ports.Releases`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self, name: ModelName | None = None) -> Sequence[ReleaseRecord]:
        """Releases by descending counter."""
        query = select(releases).order_by(releases.c.counter.desc())
        if name is not None:
            query = query.where(releases.c.publisher == name.publisher, releases.c.model == name.model)
        return [_record(row) for row in self._connection.execute(query).mappings()]

    def find(self, name: ModelName, version: str) -> ReleaseRecord | None:
        """One release."""
        row = self._connection.execute(select(releases).where(*_is(name, version))).mappings().first()
        return None if row is None else _record(row)

    def add(self, record: ReleaseRecord) -> None:
        """Index one."""
        self._connection.execute(
            insert(releases).values(
                publisher=record.name.publisher,
                model=record.name.model,
                version=record.version,
                counter=record.counter,
                floor=record.floor,
                manifest_sha256=record.manifest_sha256,
                published=record.published,
                withdrawn=record.withdrawn,
            )
        )

    def withdraw(self, name: ModelName, version: str) -> None:
        """Keep one out of new rollouts."""
        self._connection.execute(update(releases).where(*_is(name, version)).values(withdrawn=True))

    def remove(self, name: ModelName, version: str) -> None:
        """Forget one that its publisher's metadata no longer names."""
        self._connection.execute(delete(releases).where(*_is(name, version)))


class SqlClaims:
    """See `operations.ports.Claims`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def total_bytes(self, publisher: str) -> int:
        """Bytes a publisher has claimed."""
        query = select(func.coalesce(func.sum(claims.c.length_bytes), 0)).where(
            claims.c.publisher == publisher
        )
        return int(self._connection.execute(query).scalar_one())

    def length_bytes(self, publisher: str, sha256: str) -> int | None:
        """The length under which the publisher has claimed a blob."""
        query = select(claims.c.length_bytes).where(
            claims.c.publisher == publisher, claims.c.sha256 == sha256
        )
        length: int | None = self._connection.execute(query).scalar()
        return length

    def put(self, publisher: str, sha256: str, length_bytes: int) -> None:
        """Claim a blob."""
        self.remove(publisher, sha256)
        values = {"publisher": publisher, "sha256": sha256, "length_bytes": length_bytes}
        self._connection.execute(insert(claims).values(values))

    def remove(self, publisher: str, sha256: str) -> None:
        """Give a claim up."""
        chosen = delete(claims).where(claims.c.publisher == publisher, claims.c.sha256 == sha256)
        self._connection.execute(chosen)


def _is(name: ModelName, version: str) -> tuple[Any, ...]:
    return (
        releases.c.publisher == name.publisher,
        releases.c.model == name.model,
        releases.c.version == version,
    )


def _record(row: Any) -> ReleaseRecord:  # noqa: ANN401 - a row mapping
    return ReleaseRecord(
        name=ModelName(row["publisher"], row["model"]),
        version=row["version"],
        counter=row["counter"],
        floor=row["floor"],
        manifest_sha256=row["manifest_sha256"],
        published=row["published"],
        withdrawn=row["withdrawn"],
    )
