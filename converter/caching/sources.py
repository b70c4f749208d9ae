"""All files a source model consists of, found without any framework, and whether they change."""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["digest_tree", "files_of_source", "state_of"]

_CHUNK_BYTES = 2**20
_KEY = b"\x08location"
_LOCATION = re.compile(rb"\n\x08location\x12([\x01-\xff][\x01-\x7f]?)", re.DOTALL)
"""An entry of ONNX's `external_data`, as protobuf writes it: key, then the length of the value."""
_SEVEN_BITS = 0x7F

State = tuple[int, int, int]
"""What changes when a file is written: inode, size, time of the last change in nanoseconds."""


def files_of_source(path: Path) -> tuple[Path, ...]:
    """A source's files: one, or all of a folder, or an ONNX file and those that hold its weights."""
    if path.is_dir():
        return tuple(sorted(item for item in path.rglob("*") if item.is_file()))
    try:
        beside = _locations(path)
    except (OSError, ValueError):  # missing, or empty: there is nothing in it to read
        beside = frozenset()
    return (path, *sorted(path.parent / name for name in beside))


def digest_tree(files: Iterable[Path], root: Path) -> str:
    """SHA-256 of files' bytes and of their places below `root`."""
    digest = hashlib.sha256()
    for path in files:
        own = hashlib.sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                own.update(chunk)
        inside = path.relative_to(root).as_posix()
        digest.update(f"{len(inside)} {inside} {own.hexdigest()}\n".encode())
    return digest.hexdigest()


def state_of(files: Iterable[Path]) -> Mapping[Path, State | None]:
    """The state of files; None for one that is not there."""
    found: dict[Path, State | None] = {}
    for path in files:
        try:
            status = path.stat()
        except OSError:
            found[path] = None
            continue
        found[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def _locations(path: Path) -> frozenset[str]:
    """Names of files beside an ONNX file that hold its weights.

    Looked for in the bytes: only onnx itself could parse them, and it is not imported here. A weight may
    happen to look like a name; it counts if a file is called so, which does no harm.
    """
    found = set()
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(_KEY) < 0:
            return frozenset()
        for match in _LOCATION.finditer(content):
            length, start = _varint(match[1])
            start += match.start(1)
            name = content[start : start + length].decode(errors="replace")
            if "\0" not in name and ".." not in Path(name).parts and (path.parent / name).is_file():
                found.add(name)
    return frozenset(found)


def _varint(encoded: bytes) -> tuple[int, int]:
    """A length of one or two bytes, and how many."""
    if encoded[0] <= _SEVEN_BITS or len(encoded) == 1:
        return encoded[0] & _SEVEN_BITS, 1
    return encoded[0] & _SEVEN_BITS | encoded[1] << 7, 2
