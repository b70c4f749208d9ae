"""Writing files so that a power cut leaves the old or the new content, never neither."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from device_sdk.errors import DiskFullError, StoreError

__all__ = [
    "NO_SPACE",
    "fsync_directory",
    "make_folder",
    "open_private",
    "remove_durably",
    "rename_durably",
    "store_errors",
    "write_durably",
]

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def make_folder(path: Path) -> None:
    """Create a folder for this user alone, and those above it that are missing; on disk on return.

    Raises:
        StoreError: It cannot be created.
    """
    if path.is_dir():
        return
    if path.exists():
        raise StoreError(f"{path} is in the way: a folder must be there")
    make_folder(path.parent)
    with store_errors(path):
        path.mkdir(exist_ok=True, mode=0o700)  # not parents=True, which would give those the usual mode
        fsync_directory(path.parent)


def open_private(path: Path, flags: int) -> int:
    """`os.open` a file that is created, if it is, for this user alone."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


@contextlib.contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn what the file system raises into our errors.

    Raises:
        DiskFullError: There is no room.
        StoreError: The file system refuses.
    """
    try:
        yield
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
        descriptor = open_private(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
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
    with store_errors(target):
        source.rename(target)
        fsync_directory(target.parent)


def remove_durably(path: Path) -> None:
    """Remove a file if it is there; gone for good on return.

    Raises:
        StoreError: The file system refuses.
    """
    with store_errors(path):
        path.unlink(missing_ok=True)
        fsync_directory(path.parent)


def fsync_directory(path: Path) -> None:
    """Make renames and removals in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _translated(error: OSError, path: Path) -> StoreError:
    if error.errno in NO_SPACE:
        return DiskFullError(f"no room to write {path}; free some space, the update goes on by itself")
    return StoreError(f"{path}: {error.strerror or error}")
