"""Writing the files that devices read so that a crash leaves the old or the new one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ota_server.errors import StorageError

__all__ = ["fsync_directory", "make_directory", "storage_errors", "write_durably"]


def write_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace a file's content; on disk on return, unchanged on failure.

    Raises:
        StorageError: The file system refuses.
    """
    staged = path.with_name(f".{path.name}.new")
    with storage_errors(path):
        try:
            make_directory(path.parent)
            descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            staged.replace(path)
            fsync_directory(path.parent)
        except OSError:
            with contextlib.suppress(OSError):
                staged.unlink()
            raise


def make_directory(path: Path) -> None:
    """Create a folder with its parents; a power cut does not take their names away again."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    fsync_directory(path.parent)


def fsync_directory(path: Path) -> None:
    """Make renames and removals in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Translate what a file system refuses."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error
