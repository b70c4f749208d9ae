"""Writing files so that a power cut leaves the old or the new content, never neither.

What a cut or a kill leaves beside them, half-written under a name of its own, is `remove_unfinished`'s.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from device_sdk.errors import DiskFullError, StoreError

__all__ = [
    "NO_SPACE",
    "claim_folder",
    "fsync_directory",
    "make_folder",
    "open_private",
    "read_bounded",
    "remove_durably",
    "remove_unfinished",
    "rename_durably",
    "store_errors",
    "write_durably",
]

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_UNFINISHED_S = 3600.0
"""Nobody takes that long between writing a file and giving it its name."""


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


def claim_folder(path: Path) -> None:
    """Create a folder for this user alone, or close one that others can enter.

    Raises:
        StoreError: It cannot be created, or others can enter it and it is not this user's to close.
    """
    make_folder(path)
    with store_errors(path):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            try:
                path.chmod(mode & 0o700)
            except PermissionError as error:
                raise StoreError(
                    f"{path} is open to other users and not ours to close: give it to this user, mode 700"
                ) from error


def open_private(path: Path, flags: int) -> int:
    """`os.open` a file that is created, if it is, for this user alone; a link is not followed."""
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """A regular file's bytes, or the first `max_bytes + 1` of them: enough for a parser to refuse it.

    Raises:
        OSError: It cannot be read, or is no regular file; a pipe would be waited on for ever.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return stream.read(max_bytes + 1)


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


def remove_unfinished(root: Path) -> None:
    """Remove what was written below a folder and not given its name, by us or by python-tuf.

    Nothing refers to it, so losing the removal costs room until the next time and nothing else.
    """
    now = time.time()
    for folder, _, names in os.walk(root):
        for name in names:
            if not (name.startswith(".") and name.endswith(".new")) and not name.startswith("tmp"):
                continue
            path = Path(folder, name)
            with contextlib.suppress(OSError):  # in use, or gone
                if abs(now - path.lstat().st_mtime) > _UNFINISHED_S:  # abs: clocks are set, too
                    path.unlink()


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
