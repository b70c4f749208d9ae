"""The tables, and an engine that begins transactions the way the registry needs them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import TypeDecorator

from ota_server.errors import StorageError

__all__ = [
    "METADATA",
    "WRITING",
    "claims",
    "cohorts",
    "device_models",
    "devices",
    "open_engine",
    "releases",
    "reports",
    "rollouts",
    "tokens",
]

WRITING = "ferry_writing"
"""Execution option of a connection whose transactions take the write lock at once."""

_BUSY_TIMEOUT_S = 30.0
METADATA = MetaData()


class _Instant(TypeDecorator[datetime]):
    """An aware UTC datetime; SQLite keeps it without its zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database."""
        del dialect
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        del dialect
        return None if value is None else value.replace(tzinfo=UTC)


tokens = Table(
    "tokens",
    METADATA,
    Column("name", String(256), primary_key=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("role", String(32), nullable=False),
    Column("publisher", String(64), nullable=False, default=""),
    Column("device", String(128), nullable=False, default=""),
    Column("created", _Instant, nullable=False),
)

releases = Table(
    "releases",
    METADATA,
    Column("publisher", String(64), primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("version", String(128), primary_key=True),
    Column("counter", BigInteger, nullable=False),
    Column("floor", BigInteger, nullable=False),
    Column("manifest_sha256", String(64), nullable=False),
    Column("published", _Instant, nullable=False),
    Column("withdrawn", Boolean, nullable=False, default=False),
)

claims = Table(
    "claims",
    METADATA,
    Column("publisher", String(64), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("length_bytes", BigInteger, nullable=False),
)

cohorts = Table(
    "cohorts",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("condition", JSON, nullable=False),
)

devices = Table(
    "devices",
    METADATA,
    Column("id", String(128), primary_key=True),
    Column("attributes", JSON, nullable=False),
    Column("tags", JSON, nullable=False, default=list),
    Column("enrolled", _Instant, nullable=False),
    Column("last_seen", _Instant),
)

device_models = Table(
    "device_models",
    METADATA,
    Column("device", String(128), primary_key=True),
    Column("publisher", String(64), primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("version", String(128), nullable=False),
)

rollouts = Table(
    "rollouts",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("publisher", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created", _Instant, nullable=False),
    Column("document", JSON, nullable=False),
    Index("rollouts_by_model", "publisher", "model", "state"),
)

reports = Table(
    "reports",
    METADATA,
    # SQLite numbers only an INTEGER key by itself.
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("device", String(128), nullable=False),
    Column("id", String(64), nullable=False),
    Column("rollout", String(64), nullable=False),
    Column("arm", String(16), nullable=False),
    Column("state", String(16)),
    Column("at", _Instant, nullable=False),
    Column("inferences", BigInteger, nullable=False, default=0),
    Column("errors", BigInteger, nullable=False, default=0),
    Column("received", _Instant, nullable=False),
    Column("document", JSON, nullable=False),
    Index("reports_once", "device", "id", unique=True),
    Index("reports_by_rollout", "rollout", "arm", "device"),
)


def open_engine(path: Path) -> Engine:
    """A SQLite database in write-ahead mode, with its tables.

    Raises:
        StorageError: It cannot be opened.
    """
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": _BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    try:
        METADATA.create_all(engine.execution_options(**{WRITING: True}))
    except SQLAlchemyError as error:
        raise StorageError(f"database {path}: {error.__cause__ or error}") from error
    return engine


def _configure(connection: Any, _: object) -> None:  # noqa: ANN401 - the driver's own connection
    # The driver must not begin transactions by itself: it does so too late to serialise writers.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    writing = connection.get_execution_options().get(WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
