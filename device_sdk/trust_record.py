"""The anti-rollback record: what this device has trusted, apart from the metadata files themselves.

python-tuf's own files are written without fsync; after a power cut they may be empty, and an empty past
would let any old metadata in. This record is written durably, and a damaged one stops updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ota_contract.documents import Reader, canonical_json, format_instant, read_document

__all__ = ["MAX_RECORD_BYTES", "TrustRecord", "dump_record", "parse_record"]

_FORMAT = "ferry.trust-record/1"
MAX_RECORD_BYTES = 4 * 1024 * 1024
_MAX_MODELS = 64
_MAX_ROLES = 4 + 2 * _MAX_MODELS


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRecord:
    """Highest values seen; they go down only with the keys that had signed them."""

    versions: Mapping[str, int] = field(default_factory=dict)
    """Version per top-level role."""
    floors: Mapping[str, int] = field(default_factory=dict)
    """Highest floor per model."""
    revisions: Mapping[str, int] = field(default_factory=dict)
    """Highest policy revision per model."""
    policies: Mapping[str, Any] = field(default_factory=dict)
    """Last verified policy per model, as JSON, to act on while nothing changes."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """By role, a digest of who could sign for it when its versions, revisions or floors were seen."""
    trusted_time: datetime | None = None
    """The latest time the server has signed."""
    refreshed: datetime | None = None
    etag: str = ""

    def updated(self, **changes: Any) -> TrustRecord:  # noqa: ANN401 - field values
        """A copy with some fields replaced."""
        return replace(self, **changes)


def parse_record(data: bytes) -> TrustRecord:
    """Parse a record.

    Raises:
        FormatError: It is damaged.
    """
    reader = read_document(data, what="trust record", format_=_FORMAT, max_bytes=MAX_RECORD_BYTES)
    return TrustRecord(
        versions=_integers(reader, "versions"),
        floors=_integers(reader, "floors"),
        revisions=_integers(reader, "revisions"),
        policies={
            name: value.raw("value")
            for name, value in reader.entries("policies", max_items=_MAX_MODELS).items()
        },
        keys={
            role: value.text("value") for role, value in reader.entries("keys", max_items=_MAX_ROLES).items()
        },
        trusted_time=reader.instant("trusted_time") if reader.has("trusted_time") else None,
        refreshed=reader.instant("refreshed") if reader.has("refreshed") else None,
        etag=reader.text("etag", default=""),
    )


def dump_record(record: TrustRecord) -> bytes:
    """Serialise a record; `parse_record` gives it back.

    Raises:
        FormatError: It could not be read again: a policy is nested too deep, say. Writing it would stop
            this device's updates for good.
    """
    data = canonical_json(
        {
            "format": _FORMAT,
            "versions": dict(record.versions),
            "floors": dict(record.floors),
            "revisions": dict(record.revisions),
            "policies": dict(record.policies),
            "keys": dict(record.keys),
            "trusted_time": record.trusted_time and format_instant(record.trusted_time),
            "refreshed": record.refreshed and format_instant(record.refreshed),
            "etag": record.etag,
        }
    )
    parse_record(data)
    return data


def _integers(reader: Reader, key: str) -> dict[str, int]:
    return {
        name: value.integer("value") for name, value in reader.entries(key, max_items=_MAX_MODELS).items()
    }
