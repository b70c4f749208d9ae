"""Blobs in a folder: complete ones by digest below `blobs/`, unfinished uploads below `uploads/`."""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path

from ota_contract.names import blob_path
from ota_server.adapters.files import fsync_directory, storage_errors
from ota_server.errors import BlobMismatchError, UploadOffsetError

__all__ = ["FolderBlobs"]


class FolderBlobs:
    """See `operations.ports.Blobs`."""

    def __init__(self, blobs: Path, uploads: Path) -> None:
        """Create the folders.

        Raises:
            StorageError: They cannot be created.
        """
        self._blobs = blobs
        self._uploads = uploads
        with storage_errors(blobs):
            blobs.mkdir(parents=True, exist_ok=True)
            uploads.mkdir(parents=True, exist_ok=True, mode=0o700)

    def has(self, sha256: str, length_bytes: int) -> bool:
        """Whether a complete blob of that length is here."""
        try:
            return (self._blobs / blob_path(sha256)).stat().st_size == length_bytes
        except OSError:
            return False

    def offset(self, sha256: str) -> int:
        """Bytes of an unfinished upload."""
        try:
            return self._part(sha256).stat().st_size
        except OSError:
            return 0

    def append(self, sha256: str, offset: int, data: bytes, length_bytes: int) -> int:
        """Add to an upload, completing it with its last byte."""
        part = self._part(sha256)
        with storage_errors(part), part.open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)  # two clients may be resuming the same upload
            held = os.fstat(stream.fileno()).st_size
            if held != offset:
                raise UploadOffsetError(f"the upload stands at byte {held}, not {offset}", offset=held)
            try:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                stream.truncate(held)  # a full disk must not leave half a chunk nobody accounts for
                raise
            if offset + len(data) == length_bytes:
                self._complete(part, sha256)
        return offset + len(data)

    def _complete(self, part: Path, sha256: str) -> None:
        target = self._blobs / blob_path(sha256)
        with storage_errors(target):
            with part.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if digest != sha256:
                part.unlink()
                raise BlobMismatchError(
                    f"the bytes received have digest {digest}, not {sha256}; they were dropped, upload again"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)
            fsync_directory(target.parent)

    def _part(self, sha256: str) -> Path:
        return self._uploads / f"{sha256}.part"
