"""Looks at a SavedModel's folder before TensorFlow does: what lies in it, how much, and where links lead."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from converter.errors import SourceError

__all__ = ["GRAPH", "VARIABLES", "check_saved_model"]

GRAPH = "saved_model.pb"
VARIABLES = "variables/variables.index"
_MAX_FILES = 10_000
_MAX_BYTES = 16 * 2**30
_MAX_GRAPH_BYTES = 2**31 - 1
"""Protobuf's own limit."""


def check_saved_model(path: Path, shown: str) -> str:
    """The SHA-256 of all files of a SavedModel together, once it is known that all lie within it.

    Raises:
        SourceError: No SavedModel, out of bounds, or with something in it that leads or lies elsewhere.
    """
    if not path.is_dir():
        raise SourceError(f"{shown} is a file; a SavedModel is a folder: name the one that holds {GRAPH}")
    files = dict(_files(path, shown))
    if GRAPH not in files:
        advice = ""
        if "saved_model.pbtxt" in files:
            advice = ", but the text form, which is not read; save it again"
        elif any(name.endswith(f"/{GRAPH}") for name in files):
            advice = ", but folders below do; name one of them"
        raise SourceError(f"{shown} holds no {GRAPH}{advice}")
    total = sum(file.stat().st_size for file in files.values())
    if total > _MAX_BYTES:
        raise SourceError(f"{shown}: {total} bytes, at most {_MAX_BYTES} are read")
    graph_bytes = files[GRAPH].stat().st_size
    if not 0 < graph_bytes <= _MAX_GRAPH_BYTES:
        raise SourceError(f"{shown}: {GRAPH} has {graph_bytes} bytes, it takes 1 to {_MAX_GRAPH_BYTES}")
    together = hashlib.sha256()
    for name in sorted(files):
        together.update(f"{name} {_digest(files[name])}\n".encode())
    return together.hexdigest()


def _files(folder: Path, shown: str) -> Iterator[tuple[str, Path]]:
    """Every file by its path in the folder."""
    root, count = folder.resolve(), 0
    for where, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(where, name)
            inside = path.relative_to(folder).as_posix()
            kind = path.lstat().st_mode
            if stat.S_ISLNK(kind) and not path.resolve().is_relative_to(root):
                raise SourceError(f"{shown}: {inside[:80]} is a link that leads out of the folder; refused")
            if stat.S_ISLNK(kind) and not path.is_file():
                raise SourceError(f"{shown}: {inside[:80]} is a link to no file; refused")
            if not (stat.S_ISLNK(kind) or stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                raise SourceError(f"{shown}: {inside[:80]} is neither file nor folder; refused")
            count += 1
            if count > _MAX_FILES:
                raise SourceError(f"{shown}: more than {_MAX_FILES} files, which no SavedModel has")
            if name in names:
                yield inside, path


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
