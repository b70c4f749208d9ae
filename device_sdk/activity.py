"""What the agent has been doing, for `ferry-device status` in any process: counters and the last error.

Written often and never decided upon, so it is replaced atomically but not forced to disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from device_sdk.durable import open_private, read_bounded
from device_sdk.records import printable
from ota_contract.documents import Reader, read_document
from ota_contract.errors import ContractError

__all__ = ["Activity", "read_activity"]

_FILE = "activity.json"
_MAX_BYTES = 1024 * 1024
_MAX_TEXT = 500
_MAX_STANDING = 32 * 1024
"""A sentence on each of 64 models."""
_WRITE_EVERY_S = 2.0


class Activity:
    """Counters of one agent, going on from those on disk."""

    def __init__(self, store: Path) -> None:
        """Read what a former process counted."""
        self._path = store / _FILE
        self._values = read_activity(store)
        self._written = 0.0

    def polled(self, *, changed: bool) -> None:
        """The server answered a poll."""
        polls = self._values["polls"]
        polls["total"] += 1
        polls["not_modified"] += not changed

    def succeeded(self, standing: str) -> None:
        """A poll was acted upon without a failure of the link or the metadata."""
        standing = printable(standing, _MAX_STANDING)
        changed = self._values["standing"] != standing
        self._values.update(standing=standing, last_poll=_now())
        self._write(at_once=changed)

    def failed(self, message: str, *, blob_refused: bool = False, metadata_refused: bool = False) -> None:
        """Something failed; the text is one line for a person."""
        refused = self._values["refused"]
        refused["blobs"] += blob_refused
        refused["metadata"] += metadata_refused
        self._values["last_error"] = {"at": _now(), "message": printable(message, _MAX_TEXT)}
        self._write(at_once=True)

    def flush(self) -> None:
        """Write what is not written yet."""
        self._write(at_once=True)

    def _write(self, *, at_once: bool) -> None:
        now = time.monotonic()
        if not at_once and now - self._written < _WRITE_EVERY_S:
            return
        self._written = now
        staged = self._path.with_name(f".{_FILE}.new")
        # A full or read-only disk must not stop the agent over its own diary.
        with contextlib.suppress(OSError):
            descriptor = open_private(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(json.dumps(self._values))
            staged.replace(self._path)


def read_activity(store: Path) -> dict[str, Any]:
    """The counters on disk; zeros where there are none."""
    try:
        data = read_bounded(store / _FILE, _MAX_BYTES)
        return _values_from(read_document(data, what=_FILE, format_=None, max_bytes=_MAX_BYTES))
    except (OSError, ContractError):
        return _values_from(Reader({}, _FILE))


def _values_from(reader: Reader) -> dict[str, Any]:
    return {
        "polls": _counts(reader, "polls", ("total", "not_modified")),
        "refused": _counts(reader, "refused", ("blobs", "metadata")),
        "last_poll": reader.text("last_poll", default="") or None,
        "last_error": reader.optional("last_error", _error_from),
        "standing": reader.text("standing", max_length=_MAX_STANDING, default=""),
    }


def _error_from(reader: Reader) -> dict[str, str]:
    return {name: reader.text(name, max_length=_MAX_TEXT) for name in ("at", "message")}


def _counts(reader: Reader, table: str, names: tuple[str, ...]) -> dict[str, int]:
    counted = reader.object(table) if reader.has(table) else Reader({}, _FILE)
    return {name: counted.integer(name, default=0) for name in names}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
