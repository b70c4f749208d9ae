"""Blobs in a folder: complete ones by digest below `blobs/`, unfinished uploads below `uploads/<publisher>/`.

Uploads are apart by publisher: what one of them sends under a digest must not end up in another's blob.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from io import FileIO
from pathlib import Path

from ota_contract.names import blob_path
from ota_server.adapters.files import fsync_directory, make_directory, storage_errors
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

    def length_bytes(self, sha256: str) -> int | None:
        """The length of a complete blob."""
        try:
            return (self._blobs / blob_path(sha256)).stat().st_size
        except OSError:
            return None

    def offset(self, publisher: str, sha256: str) -> int:
        """Bytes of an unfinished upload."""
        try:
            return self._part(publisher, sha256).stat().st_size
        except OSError:
            return 0

    def append(self, publisher: str, sha256: str, offset: int, data: bytes, length_bytes: int) -> int:
        """Add to an upload, completing it with its last byte."""
        part = self._part(publisher, sha256)
        with storage_errors(part):
            make_directory(part.parent)
            # Unbuffered: what a full disk refused must not be written again by closing the file.
            with FileIO(part, "ab") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)  # two clients may be resuming the same upload
                if self.length_bytes(sha256) == length_bytes:
                    part.unlink(missing_ok=True)  # another client completed it while this one waited
                    return length_bytes
                held = os.fstat(stream.fileno()).st_size
                if held != offset:
                    raise UploadOffsetError(f"the upload stands at byte {held}, not {offset}", offset=held)
                self._write(stream, data, held)
                if offset + len(data) == length_bytes:
                    self._complete(part, sha256)
        return offset + len(data)

    def _write(self, stream: FileIO, data: bytes, held: int) -> None:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[stream.write(rest) :]
            os.fsync(stream.fileno())
        except OSError:
            stream.truncate(held)  # a full disk must not leave half a chunk nobody accounts for
            raise

    def _complete(self, part: Path, sha256: str) -> None:
        with part.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != sha256:
            part.unlink()
            raise BlobMismatchError(
                f"the bytes received have digest {digest}, not {sha256}; they were dropped, upload again"
            )
        target = self._blobs / blob_path(sha256)
        make_directory(target.parent)
        part.replace(target)
        fsync_directory(target.parent)

    def _part(self, publisher: str, sha256: str) -> Path:
        return self._uploads / publisher / f"{sha256}.part"
