"""Everything a server keeps, as one comparable value: a refusal must leave it equal."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

__all__ = ["dump_database", "fingerprint", "holds_bytes"]

_VOLATILE = ("ferry.db", "ferry.db-wal", "ferry.db-shm")


def fingerprint(data: Path) -> dict[str, str]:
    """Digest by file of repository, blobs, uploads and keys, and the database row by row."""
    files = {
        str(path.relative_to(data)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(data.rglob("*"))
        if path.is_file() and path.name not in _VOLATILE
    }
    return {**files, "database": dump_database(data)}


def dump_database(data: Path) -> str:
    """The whole database as SQL."""
    with closing(sqlite3.connect(f"file:{data / 'ferry.db'}?mode=ro", uri=True)) as connection:
        return "\n".join(connection.iterdump())


def holds_bytes(folder: Path, needle: bytes) -> list[str]:
    """The files below a folder in which some bytes occur."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and needle in path.read_bytes()]
