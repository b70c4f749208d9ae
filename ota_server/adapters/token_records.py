"""Access tokens in the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from ota_server.adapters.database import tokens
from ota_server.domain.access import Principal, Role
from ota_server.errors import ConflictError
from ota_server.operations.ports import TokenRecord

__all__ = ["SqlTokens"]


class SqlTokens:
    """See `operations.ports.Tokens`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, sha256: str) -> Principal | None:
        """Who bears it."""
        row = self._connection.execute(select(tokens).where(tokens.c.sha256 == sha256)).mappings().first()
        return None if row is None else _principal(row)

    def all(self) -> Sequence[TokenRecord]:
        """Every token, devices' excepted."""
        query = select(tokens).where(tokens.c.role != Role.DEVICE.value).order_by(tokens.c.name)
        return [
            TokenRecord(principal=_principal(row), sha256=row["sha256"], created=row["created"])
            for row in self._connection.execute(query).mappings()
        ]

    def add(self, record: TokenRecord) -> None:
        """Keep one."""
        principal = record.principal
        taken = select(tokens.c.name).where(tokens.c.name == principal.name)
        if self._connection.execute(taken).first() is not None:
            raise ConflictError(
                f"there is a token named {principal.name!r}; choose another name or revoke it"
            )
        self._connection.execute(
            insert(tokens).values(
                name=principal.name,
                sha256=record.sha256,
                role=principal.role.value,
                publisher=principal.publisher,
                device=principal.device,
                created=record.created,
            )
        )

    def remove(self, name: str) -> bool:
        """Forget one."""
        return self._connection.execute(delete(tokens).where(tokens.c.name == name)).rowcount > 0


def _principal(row: Any) -> Principal:  # noqa: ANN401 - a row mapping
    return Principal(
        name=row["name"], role=Role(row["role"]), publisher=row["publisher"], device=row["device"]
    )
