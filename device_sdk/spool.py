"""The durable queue of reports: what happened here is on disk before anybody is told.

Any process that predicts drops windows of counts into `incoming/`. The agent, the only one to take from
there, adds them to the trial and moves them to `outgoing/`, from where they are sent until the server
has acknowledged them. A report keeps its id, so sending it twice counts once.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from device_sdk.durable import (
    make_folder,
    read_bounded,
    remove_durably,
    rename_durably,
    store_errors,
    write_durably,
)
from ota_contract.documents import canonical_json, read_document
from ota_contract.errors import ContractError
from ota_contract.report import Report, report_from, report_to_json

__all__ = ["Queued", "Spool"]

_MAX_QUEUED = 2000
"""Some 700 kB; past it the oldest reports go, since a device must not fill its disk with history."""
_MAX_REPORT_BYTES = 16 * 1024

Queued = tuple[Path, Report]


class Spool:
    """The reports of one device."""

    def __init__(self, root: Path) -> None:
        """Create the folders."""
        self._incoming = root / "incoming"
        self._outgoing = root / "outgoing"
        make_folder(self._incoming)
        make_folder(self._outgoing)

    def drop(self, report: Report) -> None:
        """Leave a window for the agent to take; any process may. On disk on return.

        Raises:
            StoreError: It cannot be written.
        """
        self._write(self._incoming, report)
        _bound(self._incoming)  # the agent may be long gone

    def add(self, report: Report) -> None:
        """Queue a report for sending; on disk on return.

        Raises:
            StoreError: It cannot be written.
        """
        self._write(self._outgoing, report)
        _bound(self._outgoing)

    def incoming(self) -> Iterator[Queued]:
        """What was dropped and not yet accepted, oldest first."""
        found = False
        for queued in self._read(self._incoming):
            found = True
            yield queued
        if found:
            _bound(self._outgoing)  # where what was accepted meanwhile went; offline, nothing leaves it

    def accept(self, path: Path) -> None:
        """Move a dropped window on to sending."""
        rename_durably(path, self._outgoing / path.name)

    def outgoing(self, most: int) -> list[Queued]:
        """What is to be sent next, oldest first."""
        return [queued for queued, _ in zip(self._read(self._outgoing), range(most), strict=False)]

    def waiting(self) -> int:
        """How many reports are to be sent."""
        return len(_files(self._outgoing))

    def forget(self, paths: Iterable[Path]) -> None:
        """Remove reports the server has acknowledged."""
        for path in paths:
            remove_durably(path)

    def _write(self, folder: Path, report: Report) -> None:
        # The name sorts by time; the id inside is what makes a report one report.
        name = f"{time.time_ns():020}-{uuid.uuid4().hex[:8]}.json"
        write_durably(folder / name, canonical_json(report_to_json(report)))

    def _read(self, folder: Path) -> Iterator[Queued]:
        for path in _files(folder):
            try:
                data = read_bounded(path, _MAX_REPORT_BYTES)
                reader = read_document(data, what=path.name, format_=None, max_bytes=_MAX_REPORT_BYTES)
                yield path, report_from(reader)
            except OSError:
                continue  # taken by the agent meanwhile, or not to be read just now
            except ContractError:
                remove_durably(path)  # torn by a power cut: there is nothing to send


def _bound(folder: Path) -> None:
    paths = _files(folder)
    with store_errors(folder):
        for path in paths[: max(0, len(paths) - _MAX_QUEUED)]:
            path.unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    with store_errors(folder):
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
