"""A download on disk: what of it is sound, how it goes on, and when it is the signed file.

Nothing in a part file is trusted before `verify`. The digests of its pieces, where the manifest has them,
only say where a damaged one ends to be of use: what lies before the damage need not be fetched again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from device_sdk.durable import open_private
from device_sdk.errors import DigestMismatchError
from ota_contract.package_files import Pieces

__all__ = ["PartFile"]

_CHUNK_BYTES = 1024 * 1024


class PartFile:
    """One file being downloaded."""

    def __init__(self, path: Path, *, length_bytes: int, pieces: Pieces | None) -> None:
        """Touch nothing yet.

        Args:
            path: Where it lies.
            length_bytes: The signed length.
            pieces: Digests of its pieces, if there are any.
        """
        self.path = path
        self._length_bytes = length_bytes
        self._pieces = pieces

    def resume(self) -> int:
        """Bytes that are here and worth keeping; anything behind them is cut off.

        Raises:
            OSError: The file system refuses.
        """
        if not self.path.exists():
            return 0
        have = self.path.stat().st_size
        if have > self._length_bytes:
            self.drop()
            return 0
        check = _PieceCheck(self._pieces)
        with self.path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                if not check.feed(chunk):
                    break
        if check.is_damaged:
            os.truncate(self.path, check.sound_bytes)
            return check.sound_bytes
        return have

    def append(self, have: int, chunks: Iterable[bytes]) -> int:
        """Write what comes behind the first `have` bytes, on disk on return; returns how many came.

        Raises:
            DigestMismatchError: A piece is not the signed one; what lies before it is kept.
            OSError: The file system refuses; what came is kept.
        """
        received = 0
        check = _PieceCheck(self._pieces)
        with os.fdopen(open_private(self.path, os.O_RDWR | os.O_CREAT), "r+b") as stream:
            stream.truncate(have)
            stream.seek(check.begin_at(have))
            check.feed(stream.read(have - stream.tell()))
            try:
                for chunk in chunks:
                    stream.write(chunk)
                    received += len(chunk)
                    if not check.feed(chunk):
                        stream.truncate(check.sound_bytes)
                        raise DigestMismatchError(
                            f"the bytes are not the signed ones behind byte {check.sound_bytes}"
                        )
            finally:
                stream.flush()
                os.fsync(stream.fileno())
        return received

    def verify(self, sha256: str) -> None:
        """Compare the whole file with its signed digest; on disk on return.

        Raises:
            DigestMismatchError: It is another file; it was deleted.
        """
        with self.path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() == sha256:
                os.fsync(stream.fileno())  # a process may have been killed before it came to that
                return
        self.drop()
        raise DigestMismatchError("the bytes are not the signed ones")

    def idle_s(self, now_s: float) -> float:
        """Seconds since bytes last came, by the file's own time; none for a file that is not there."""
        try:
            return now_s - self.path.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def drop(self) -> None:
        """Begin anew."""
        self.path.unlink(missing_ok=True)


class _PieceCheck:
    """Follows a file's bytes, piece by piece."""

    def __init__(self, pieces: Pieces | None) -> None:
        self._pieces = pieces
        self._index = 0
        self._filled = 0
        self._digest = hashlib.sha256()
        self.is_damaged = False

    @property
    def sound_bytes(self) -> int:
        """Length of the whole pieces that agreed."""
        return 0 if self._pieces is None else self._index * self._pieces.length_bytes

    def begin_at(self, have: int) -> int:
        """Start behind `have` bytes known to be sound; returns where their last, open piece begins."""
        if self._pieces is None:
            return have
        self._index = have // self._pieces.length_bytes
        return self.sound_bytes

    def feed(self, chunk: bytes) -> bool:
        """Take the next bytes; whether every piece so far agrees."""
        if self._pieces is None:
            return True
        view = memoryview(chunk)
        while view and not self.is_damaged:
            taken = view[: self._pieces.length_bytes - self._filled]
            view = view[len(taken) :]
            self._digest.update(taken)
            self._filled += len(taken)
            if self._filled == self._pieces.length_bytes:
                self._close(self._pieces)
        return not self.is_damaged

    def _close(self, pieces: Pieces) -> None:
        if not pieces.agrees(self._index, self._digest.digest()):
            self.is_damaged = True
            return
        self._index += 1
        self._filled = 0
        self._digest = hashlib.sha256()
