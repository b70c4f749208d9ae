"""Results of passes on disk, by key: files and facts, checked when read, in a folder of bounded size.

A result appears whole or not at all, whatever happens to the process that keeps it, and several
conversions may use one folder at a time. Nothing is synced to the disk: after a power cut a digest does
not fit, and what does not fit is removed and made again.

    results/<2 hex>/<key>/entry.json    facts, and the digest of every file and of itself
    results/<2 hex>/<key>/files/…
    making/<random>/                    what is being written or removed; its lock is held meanwhile
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

__all__ = ["DEFAULT_LIMIT_BYTES", "Kept", "ResultStore", "cache_folder", "default_limit_bytes"]

DEFAULT_LIMIT_BYTES = 10 * 2**30
_MEBIBYTE = 2**20
_FORMAT = "ferry.result/1"
_ENTRY, _FILES, _LOCK = "entry.json", "files", "lock"
_CHUNK_BYTES = 2**20
_MODE_BITS = 0o777


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One result in the folder, as a listing shows it."""

    key: str
    name: str
    """Of the pass."""
    length_bytes: int
    used_ns: int
    """When it was last made or found, in nanoseconds since 1970."""
    folder: Path


class _DamagedError(Exception):
    """An entry that is not as it was written; never leaves this module."""


class ResultStore:
    """The results in one folder, which may be deleted at any time."""

    def __init__(self, folder: Path, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        """Use `folder`, which need not exist; `trim` keeps it within the limit."""
        self.folder = folder
        self.limit_bytes = limit_bytes

    def find(self, key: str, into: Path) -> Mapping[str, Any] | None:
        """Copy a result's files into an empty folder; returns its facts, or None where there is none.

        Bytes are checked as they are copied. A damaged result is removed, and `into` is empty again.
        """
        entry = self._path(key)
        try:
            body = _read_entry(entry)
            for path, file in body["files"].items():
                _restore(entry / _FILES / path, into / path, file)
            with contextlib.suppress(OSError):
                os.utime(entry / _ENTRY)  # its time of use, for `trim`
        except FileNotFoundError:  # never there, or just trimmed by another conversion
            _empty(into)
            if entry.exists():
                self._remove(entry)
            return None
        except (OSError, _DamagedError):
            _empty(into)
            self._remove(entry)
            return None
        facts: Mapping[str, Any] = body["facts"]
        return facts

    def keep(self, key: str, name: str, facts: Mapping[str, Any], out: Path) -> None:
        """Remember a result: copies of all files in `out`, and the facts.

        A folder that cannot be written, or is full, only costs making it again.
        """
        with contextlib.suppress(OSError), self._making() as making:
            files = {}
            for path in sorted(item for item in out.rglob("*") if not item.is_dir()):
                inside = path.relative_to(out).as_posix()
                if path.is_symlink():  # what it names is not in our hands
                    return
                files[inside] = _copy(path, making / "new" / _FILES / inside)
            body = {"format": _FORMAT, "key": key, "name": name, "facts": facts, "files": files}
            (making / "new").mkdir(exist_ok=True)
            (making / "new" / _ENTRY).write_text(json.dumps({"body": body, "sha256": _digest(body)}))
            place = self._path(key)
            place.parent.mkdir(parents=True, exist_ok=True)
            (making / "new").rename(place)  # fails where another conversion was first, with the same

    def listing(self) -> list[Kept]:
        """Every result, the one used last first."""
        found = []
        for path in (self.folder / "results").glob("*/*"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                body = json.loads((path / _ENTRY).read_text())["body"]
                found.append(
                    Kept(
                        key=path.name,
                        name=str(body["name"]),
                        length_bytes=_size(path),
                        used_ns=(path / _ENTRY).stat().st_mtime_ns,
                        folder=path,
                    )
                )
        return sorted(found, key=lambda item: item.used_ns, reverse=True)

    def trim(self) -> None:
        """Remove what killed conversions left, and the results unused for longest until the rest fits."""
        self._sweep()
        total = 0
        for item in self.listing():
            total += item.length_bytes
            if total > self.limit_bytes:
                self._remove(item.folder)

    def clear(self) -> None:
        """Remove every result."""
        self._sweep()
        for path in (self.folder / "results").glob("*/*"):
            self._remove(path)

    def _path(self, key: str) -> Path:
        return self.folder / "results" / key[:2] / key

    def _remove(self, entry: Path) -> None:
        # Moved away first: a reader finds a result whole or not at all.
        with contextlib.suppress(OSError), self._making() as making:
            entry.rename(making / "old")

    @contextmanager
    def _making(self) -> Iterator[Path]:
        """A folder of our own beside the results, gone afterwards.

        Raises:
            OSError: The folder cannot be written.
        """
        parent = self.folder / "making"
        parent.mkdir(parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(dir=parent))
        try:
            with (own / _LOCK).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)

    def _sweep(self) -> None:
        for path in (self.folder / "making").glob("*"):
            # A lock ends with its process. A folder whose lock is not yet there may be one being made:
            # to take it away costs its owner one result.
            with contextlib.suppress(OSError), (path / _LOCK).open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)


def cache_folder(environment: Mapping[str, str]) -> Path:
    """The user's cache: $FERRY_CACHE, else $XDG_CACHE_HOME/ferry, else ~/.cache/ferry."""
    root = environment.get("FERRY_CACHE")
    if root:
        return Path(root)
    return Path(environment.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "ferry"


def default_limit_bytes(environment: Mapping[str, str]) -> int:
    """$FERRY_CACHE_MB, where it is a whole number, else 10 GiB."""
    text = environment.get("FERRY_CACHE_MB", "")
    return int(text) * _MEBIBYTE if text.isascii() and text.isdigit() else DEFAULT_LIMIT_BYTES


def _read_entry(entry: Path) -> Mapping[str, Any]:
    try:
        value = json.loads((entry / _ENTRY).read_bytes())
        body: Mapping[str, Any] = value["body"]
        sound = value["sha256"] == _digest(body) and body["format"] == _FORMAT and body["key"] == entry.name
    except (ValueError, KeyError, TypeError) as error:
        raise _DamagedError from error
    if not sound or not all(_is_inside(path) for path in body["files"]):
        raise _DamagedError
    return body


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not PurePosixPath(path).is_absolute() and ".." not in parts


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _restore(source: Path, target: Path, file: Mapping[str, Any]) -> None:
    if _copy(source, target) != file:
        raise _DamagedError


def _copy(source: Path, target: Path) -> dict[str, Any]:
    """Copy bytes, never a link, so that a later writer of one file cannot change the other."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, length = hashlib.sha256(), 0
    with source.open("rb") as read, target.open("wb") as write:
        mode = os.fstat(read.fileno()).st_mode & _MODE_BITS
        while chunk := read.read(_CHUNK_BYTES):
            digest.update(chunk)
            length += len(chunk)
            write.write(chunk)
        os.fchmod(write.fileno(), mode)
    return {"length_bytes": length, "sha256": digest.hexdigest(), "mode": mode}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
