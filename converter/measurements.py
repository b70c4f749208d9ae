"""Latency and memory are measured once for a file on a host, and remembered.

A time never comes out twice the same, and it is part of the manifest: measuring anew would give every
conversion other bytes. `docs/adr/0003-latency-is-measured-once-per-host.md` has the reasons.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from converter.caching.store import cache_folder
from ota_contract.documents import canonical_json, read_document
from ota_contract.errors import FormatError

__all__ = ["Key", "Measurement", "MeasurementCache", "default_cache"]

_FORMAT = "ferry.measurement/1"
_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Everything a measurement depends on that we can name."""

    model_sha256: str
    runtime: str
    runtime_version: str
    threads: int
    cpu: str
    code_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured."""

    p50_us: int
    p99_us: int
    runs: int
    resident_bytes: int
    """Greatest resident memory of a process that loads and runs the variant and does nothing else."""


class MeasurementCache:
    """One small file a measurement, in a folder that may be deleted at any time."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which need not exist."""
        self._folder = folder

    def find(self, key: Key) -> Measurement | None:
        """What was measured, or None; a damaged file counts as none."""
        try:
            data = self._path(key).read_bytes()
            reader = read_document(data, what="measurement", format_=_FORMAT, max_bytes=_MAX_BYTES)
            return Measurement(
                p50_us=reader.integer("p50_us", low=1),
                p99_us=reader.integer("p99_us", low=1),
                runs=reader.integer("runs", low=1),
                resident_bytes=reader.integer("resident_bytes"),
            )
        except (OSError, FormatError):
            return None

    def keep(self, key: Key, measurement: Measurement) -> None:
        """Remember a measurement; a folder that cannot be written only costs measuring again."""
        value: Mapping[str, Any] = {"format": _FORMAT, "key": asdict(key), **asdict(measurement)}
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
            with os.fdopen(handle, "wb") as stream:
                stream.write(canonical_json(value))
            Path(name).replace(path)
        except OSError:
            return

    def _path(self, key: Key) -> Path:
        return self._folder / f"{hashlib.sha256(canonical_json(asdict(key))).hexdigest()}.json"


def default_cache(environment: Mapping[str, str]) -> MeasurementCache:
    """The measurements in the user's cache."""
    return MeasurementCache(cache_folder(environment) / "measurements")
