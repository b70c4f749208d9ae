"""Bounds on zip archives from outside: .keras and .npz files are zip files.

Reading the directory costs nothing and tells how much a careless reader would unpack; an archive
made to fill memory or disk is refused before a byte of it is inflated.
"""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

__all__ = ["ArchiveError", "check_archive"]

_MAX_MEMBERS = 10_000
_MAX_RATIO = 200
"""Floats compress 1.1 times, pixels of paper perhaps 50; a bomb, a thousand."""
_RATIO_MATTERS_BYTES = 1024 * 1024


class ArchiveError(Exception):
    """Why an archive is refused; translated by whoever knows what it was to be."""


def check_archive(path: Path, *, max_bytes: int) -> tuple[str, ...]:
    """The names of an archive's members, once it is known to be safe to unpack.

    Raises:
        ArchiveError: Not a zip file, cut off, or out of bounds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ArchiveError(f"not a complete zip archive ({error})") from error
    if len(members) > _MAX_MEMBERS:
        raise ArchiveError(f"{len(members)} members, at most {_MAX_MEMBERS} are read")
    unpacked = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if unpacked > max_bytes:
        raise ArchiveError(f"would unpack to {unpacked} bytes, at most {max_bytes} are read")
    if unpacked > _RATIO_MATTERS_BYTES and unpacked > _MAX_RATIO * max(1, packed):
        raise ArchiveError(f"unpacks to {unpacked // max(1, packed)} times its size: a zip bomb")
    names = tuple(member.filename for member in members)
    for name in names:
        if name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name:
            raise ArchiveError(f"holds {name[:80]!r}, which would be written outside its folder")
    if len(set(names)) != len(names):
        raise ArchiveError("holds a member twice")
    return names
