"""What the agent has been doing, for `ferry-device status` in any process: counters and the last error.

Written often and never decided upon, so it is replaced atomically but not forced to disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from device_sdk.durable import open_private

__all__ = ["Activity", "read_activity"]

_FILE = "activity.json"
_EMPTY: Mapping[str, Any] = {
    "polls": {"total": 0, "not_modified": 0},
    "refused": {"blobs": 0, "metadata": 0},
    "last_poll": None,
    "last_error": None,
    "standing": "",
}
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
        changed = self._values["standing"] != standing
        self._values.update(standing=standing, last_poll=_now())
        self._write(at_once=changed)

    def failed(self, message: str, *, blob_refused: bool = False, metadata_refused: bool = False) -> None:
        """Something failed; the text is one line for a person."""
        refused = self._values["refused"]
        refused["blobs"] += blob_refused
        refused["metadata"] += metadata_refused
        self._values["last_error"] = {"at": _now(), "message": message[:500]}
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
        values = json.loads((store / _FILE).read_bytes())
        return {**_copy(), **{key: values[key] for key in _EMPTY}}
    except (OSError, ValueError, KeyError, TypeError):
        return _copy()


def _copy() -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(json.dumps(_EMPTY))
    return copied


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
