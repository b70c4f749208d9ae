"""Writing files so that a power cut leaves the old or the new content, never neither."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from device_sdk.errors import DiskFullError, StoreError

__all__ = ["fsync_directory", "make_folder", "remove_durably", "rename_durably", "write_durably"]

_NO_SPACE = (28, 122)  # ENOSPC, EDQUOT


def make_folder(path: Path) -> None:
    """Create a folder for this user alone, with its parents.

    Raises:
        StoreError: It cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _translated(error, path) from error


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file's content; on disk on return, unchanged on failure.

    Raises:
        DiskFullError: There is no room.
        StoreError: The file system refuses.
    """
    staged = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        staged.replace(path)
        fsync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            staged.unlink()
        raise _translated(error, path) from error


def rename_durably(source: Path, target: Path) -> None:
    """Rename within one file system; on disk on return.

    Raises:
        StoreError: The file system refuses; both names are as they were.
    """
    try:
        source.rename(target)
        fsync_directory(target.parent)
    except OSError as error:
        raise _translated(error, target) from error


def remove_durably(path: Path) -> None:
    """Remove a file if it is there; gone for good on return.

    Raises:
        StoreError: The file system refuses.
    """
    try:
        path.unlink(missing_ok=True)
        fsync_directory(path.parent)
    except OSError as error:
        raise _translated(error, path) from error


def fsync_directory(path: Path) -> None:
    """Make renames and removals in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _translated(error: OSError, path: Path) -> StoreError:
    if error.errno in _NO_SPACE:
        return DiskFullError(f"no room to write {path}; free some space, the update goes on by itself")
    return StoreError(f"{path}: {error.strerror or error}")
