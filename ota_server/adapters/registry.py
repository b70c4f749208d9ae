"""The registry on SQLAlchemy: one transaction, one set of record stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from ota_server.adapters.database import WRITING, open_engine
from ota_server.adapters.device_records import SqlDevices
from ota_server.adapters.release_records import SqlClaims, SqlReleases
from ota_server.adapters.report_records import SqlReports
from ota_server.adapters.rollout_records import SqlCohorts, SqlRollouts
from ota_server.adapters.token_records import SqlTokens
from ota_server.errors import SetupError, StorageError

__all__ = ["DATABASE", "SqlRegistry", "open_registry"]

DATABASE = "ferry.db"
"""The database's name in the data folder."""


class SqlRecords:
    """The stores inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self.tokens = SqlTokens(connection)
        self.releases = SqlReleases(connection)
        self.claims = SqlClaims(connection)
        self.cohorts = SqlCohorts(connection)
        self.devices = SqlDevices(connection)
        self.rollouts = SqlRollouts(connection)
        self.reports = SqlReports(connection)


class SqlRegistry:
    """See `operations.ports.Registry`."""

    def __init__(self, path: Path) -> None:
        """Open the database, creating its tables where there are none.

        Raises:
            StorageError: It cannot be opened.
        """
        self._engine = open_engine(path)

    @contextmanager
    def read(self) -> Iterator[SqlRecords]:
        """A snapshot."""
        with _storage_errors(), self._engine.connect() as connection, connection.begin():
            yield SqlRecords(connection)

    @contextmanager
    def write(self) -> Iterator[SqlRecords]:
        """The exclusive transaction."""
        engine = self._engine.execution_options(**{WRITING: True})
        with _storage_errors(), engine.connect() as connection, connection.begin():
            yield SqlRecords(connection)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def open_registry(data: Path) -> SqlRegistry:
    """The registry of a data folder.

    Raises:
        SetupError: The folder is not one of `ferry keys init`.
    """
    if not (data / "repository").is_dir():
        raise SetupError(
            f"{data} holds no repository; `ferry keys init DIR --publisher NAME` makes one in DIR/server"
        )
    return SqlRegistry(data / DATABASE)


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise StorageError(f"the database failed: {str(error.__cause__ or error).splitlines()[0]}") from error
