"""Devices in the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from ota_contract.device import Attributes, attributes_from, attributes_to_json
from ota_contract.documents import reader_of
from ota_contract.names import ModelName
from ota_server.adapters.database import device_models, devices, tokens
from ota_server.operations.ports import DeviceRecord

__all__ = ["SqlDevices"]


class SqlDevices:
    """See `operations.ports.Devices`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self, *, after: str = "", most: int | None = None) -> Sequence[DeviceRecord]:
        """Devices by id."""
        query = select(devices).where(devices.c.id > after).order_by(devices.c.id).limit(most)
        rows = self._connection.execute(query).mappings().all()
        if not rows:
            return []
        within = device_models.c.device.between(rows[0]["id"], rows[-1]["id"])
        live: dict[str, dict[ModelName, str]] = {}
        for row in self._connection.execute(select(device_models).where(within)).mappings():
            live.setdefault(row["device"], {})[_name(row)] = row["version"]
        return [_record(row, live.get(row["id"], {})) for row in rows]

    def find(self, device_id: str) -> DeviceRecord | None:
        """One device."""
        row = self._connection.execute(select(devices).where(devices.c.id == device_id)).mappings().first()
        return None if row is None else _record(row, self._live(device_id))

    def add(self, record: DeviceRecord) -> None:
        """Enrol one."""
        self._connection.execute(
            insert(devices).values(
                id=record.attributes.device_id,
                attributes=attributes_to_json(record.attributes),
                tags=list(record.attributes.tags),
                enrolled=record.enrolled,
                last_seen=record.last_seen,
            )
        )

    def saw(self, attributes: Attributes, live: Mapping[ModelName, str], now: datetime) -> None:
        """Keep what a device said of itself."""
        device_id = attributes.device_id
        values = {"attributes": attributes_to_json(attributes), "last_seen": now}
        self._connection.execute(update(devices).where(devices.c.id == device_id).values(values))
        if self._live(device_id) == dict(live):
            return
        self._connection.execute(delete(device_models).where(device_models.c.device == device_id))
        rows = [
            {"device": device_id, "publisher": name.publisher, "model": name.model, "version": version}
            for name, version in live.items()
        ]
        if rows:
            self._connection.execute(insert(device_models), rows)

    def tag(self, device_id: str, tags: Sequence[str]) -> None:
        """Replace a device's tags."""
        self._connection.execute(update(devices).where(devices.c.id == device_id).values(tags=list(tags)))

    def remove(self, device_id: str) -> None:
        """Forget one with its token."""
        self._connection.execute(delete(devices).where(devices.c.id == device_id))
        self._connection.execute(delete(device_models).where(device_models.c.device == device_id))
        self._connection.execute(delete(tokens).where(tokens.c.device == device_id))

    def _live(self, device_id: str) -> dict[ModelName, str]:
        query = select(device_models).where(device_models.c.device == device_id)
        rows: Iterable[Any] = self._connection.execute(query).mappings()
        return {_name(row): row["version"] for row in rows}


def _name(row: Any) -> ModelName:  # noqa: ANN401 - a row mapping
    return ModelName(row["publisher"], row["model"])


def _record(row: Any, live: Mapping[ModelName, str]) -> DeviceRecord:  # noqa: ANN401
    attributes = attributes_from(reader_of(row["attributes"], what=f"device {row['id']}"))
    return DeviceRecord(
        attributes=replace(attributes, tags=tuple(row["tags"])),
        enrolled=row["enrolled"],
        last_seen=row["last_seen"],
        live=live,
    )
