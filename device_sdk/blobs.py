"""Brings the files of a release: by a delta where the device holds what it starts from, else whole.

A delta saves bytes and is trusted with nothing: what it makes is kept only if it is the signed file. Bytes
that are not the signed delta's are an attack or damage and end the attempt, as with any blob, and the next
attempt takes whole files. A signed delta that turns out useless costs its bytes once.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from device_sdk.durable import NO_SPACE, open_private, remove_durably, rename_durably, write_durably
from device_sdk.errors import DigestMismatchError, DiskFullError, MissingFileError, NetworkError
from device_sdk.part_file import PartFile
from device_sdk.slots import Store
from device_sdk.transport import Transport
from ota_contract.delta import apply_delta
from ota_contract.errors import DeltaError
from ota_contract.manifest import Delta, File, Release
from ota_contract.names import blob_path

__all__ = ["Blobs", "Plan"]

_LOG = logging.getLogger("ferry")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is missing, and how it comes."""

    files: int
    missing: tuple[File, ...]
    """Each content once."""
    deltas: dict[str, Delta] = field(default_factory=dict)
    """By the digest of what they make."""
    marks: tuple[Path, ...] = ()
    """Of deltas tried in vain before; of no use once everything is here."""

    @property
    def needed_bytes(self) -> int:
        """Room on disk: a delta is there until its file is."""
        return sum(file.length_bytes for file in self.missing) + self._delta_bytes

    @property
    def _delta_bytes(self) -> int:
        return sum(delta.file.length_bytes for delta in self.deltas.values())

    def __str__(self) -> str:
        """One line, for people."""
        whole = sum(file.length_bytes for file in self.missing if file.sha256 not in self.deltas)
        text = f"{self.files} files, {whole + self._delta_bytes:,} bytes"
        if self.deltas:
            instead = sum(file.length_bytes for file in self.missing if file.sha256 in self.deltas)
            deltas = "1 delta" if len(self.deltas) == 1 else f"{len(self.deltas)} deltas"
            text += f"; {deltas} of {self._delta_bytes:,} bytes instead of {instead:,}"
        return text


class Blobs:
    """Downloads into a store."""

    def __init__(self, store: Store, transport: Transport, url: str) -> None:
        """Fetch nothing yet; `url` is where blobs lie."""
        self._store = store
        self._transport = transport
        self._url = url

    def plan(self, release: Release, files: tuple[File, ...], *, by_delta: bool) -> Plan:
        """See what is missing, make sure there is room, and forget downloads of anything else.

        Raises:
            DiskFullError: There is no room; nothing was fetched.
            StoreError: The file system refuses.
        """
        missing = tuple(file for file in files if not self._store.has_blob(file))
        distinct = tuple({file.sha256: file for file in missing}.values())
        marks = tuple(filter(Path.exists, map(self._mark, release.deltas)))
        plan = Plan(files=len(missing), missing=distinct, marks=marks)
        if by_delta:
            ways = {file.sha256: delta for file in distinct for delta in self._ways(release, file)}
            plan = self._if_there_is_room(replace(plan, deltas=ways), plan, files)
        else:
            self._store.check_room(self._needed_bytes(plan, files))
        kept = [file.sha256 for file in (*distinct, *(way.file for way in plan.deltas.values()))]
        self._store.drop_parts((*kept, *(mark.stem for mark in marks)))
        return plan

    def bring(self, plan: Plan) -> str:
        """Bring everything; on disk and verified on return. Returns what did not go as planned, or nothing.

        Raises:
            DigestMismatchError: Bytes are not the signed ones.
            NetworkError: The link failed; what came is kept.
            StoreError: The file system refuses.
        """
        notes, marks = [], list(plan.marks)
        for file in plan.missing:
            delta = plan.deltas.get(file.sha256)
            if delta is not None:
                note = self._by_delta(file, delta)
                if not note:
                    continue
                _LOG.warning("%s: %s; fetching the whole file", delta.file.path, note)
                notes.append(f"; {delta.file.path}: {note}")
                marks.append(self._mark(delta))
            self._download(file)
            self._store.keep_blob(file.sha256)
        parts = [self._store.part(delta.file.sha256) for delta in plan.deltas.values()]
        for path in (*marks, *parts):
            if path.exists():
                remove_durably(path)
        return "".join(notes)

    def _ways(self, release: Release, file: File) -> Iterator[Delta]:
        """The delta that costs least, if one can be used and costs less than what is left of the file."""
        left = self._left(file)
        usable = sorted(
            (delta for delta in release.deltas if delta.target_sha256 == file.sha256),
            key=lambda delta: (self._left(delta.file), delta.file.sha256),
        )
        for delta in usable:
            if (
                self._left(delta.file) < left
                and not self._mark(delta).exists()
                and self._is_intact(delta.base_sha256)
            ):
                yield delta
                return

    def _needed_bytes(self, plan: Plan, files: tuple[File, ...]) -> int:
        """Room still to be filled: less what came before, and everything twice where links cannot be made."""
        begun = (*plan.missing, *(delta.file for delta in plan.deltas.values()))
        here = sum(file.length_bytes - self._left(file) for file in begun)
        copies = 0 if self._store.has_links() else sum(file.length_bytes for file in files)
        return plan.needed_bytes - here + copies

    def _if_there_is_room(self, plan: Plan, instead: Plan, files: tuple[File, ...]) -> Plan:
        try:
            self._store.check_room(self._needed_bytes(plan, files))
        except DiskFullError:
            self._store.check_room(self._needed_bytes(instead, files))
            return instead
        return plan

    def _left(self, file: File) -> int:
        part = self._store.part(file.sha256)
        have = part.stat().st_size if part.exists() else 0
        return file.length_bytes - have if have <= file.length_bytes else file.length_bytes

    def _mark(self, delta: Delta) -> Path:
        """A file that says a delta was tried in vain."""
        return self._store.part(f"{delta.file.sha256}.useless")

    def _is_intact(self, sha256: str) -> bool:
        """Not `has_blob`: a damaged base is another release's, and that release's to repair."""
        try:
            with self._store.blob(sha256).open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest() == sha256
        except OSError:
            return False

    def _download(self, file: File) -> None:
        self._transport.download(
            f"{self._url}/{blob_path(file.sha256)}",
            self._store.part(file.sha256),
            length_bytes=file.length_bytes,
            sha256=file.sha256,
            pieces=file.pieces,
        )

    def _by_delta(self, file: File, delta: Delta) -> str:
        """Bring a file by a delta; returns why that could not be, or nothing."""
        part = self._store.part(delta.file.sha256)
        before = self._left(delta.file)
        try:
            self._download(delta.file)
        except MissingFileError as error:
            return str(error)
        except NetworkError as error:
            # The link gave metadata a moment ago: a server that cannot give this one file, or gives it in
            # another length, must not stop the update.
            if error.retry_after_s is not None or self._left(delta.file) != before:
                raise
            return str(error)
        note = self._apply(file, delta, part)
        if note:
            # Kept until the file is here: its bytes must not be fetched again after the next lost link.
            write_durably(self._mark(delta), b"")
        remove_durably(part)
        return note

    def _apply(self, file: File, delta: Delta, part: Path) -> str:
        made = PartFile(self._store.part(f"{file.sha256}.made"), length_bytes=file.length_bytes, pieces=None)
        try:
            with (
                self._store.blob(delta.base_sha256).open("rb") as base,
                part.open("rb") as stream,
                os.fdopen(open_private(made.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as out,
            ):
                apply_delta(base, stream, out, max_bytes=file.length_bytes)
                out.flush()
                os.fsync(out.fileno())
            made.verify(file.sha256)
        except (DeltaError, DigestMismatchError, OSError) as error:
            with suppress(OSError):
                made.drop()
            if isinstance(error, OSError) and error.errno in NO_SPACE:
                raise DiskFullError(f"no room for {file.length_bytes} bytes at {part.parent}") from error
            return f"it does not make {file.path}: {error}"
        rename_durably(made.path, self._store.blob(file.sha256))
        return ""
