"""What a power cut may leave of a folder: everything done to it is recorded, then any prefix is replayed.

The record. Before each call that changes a file system (the interpreter's audit events tell of them all)
and around each fsync the folder is compared with what it was. What differs was done since: data of a file,
or entries of folders. A write therefore cannot escape the record, however it was made; at most it is seen
together with the next one, and everything kept must give the folder as it is.

The model. Files have an identity of their own, names are entries of folders, and the two reach the disk
apart from each other:

- a file's data is on disk once the file is fsynced, an entry once its folder is;
- until then data may be lost (the file has what it had at its last fsync; a new one is empty), there, or
  torn: the first half, zeros in the right length, or nothing at all, as delayed allocation leaves it;
- until then an entry may be lost or there, whatever became of others: that is weaker than the ordered
  journal of ext4, and what ALICE and CrashMonkey assume of POSIX;
- a symbolic link is an entry that holds where it leads;
- a rename is one step: both names or neither, on disk once either folder is fsynced;
- a folder nothing leads to is gone with all that is in it.
Not modelled: sectors that go bad, and a disk that reports a flush it has not made.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Crash", "Fate", "Outcome", "Recording", "outcome_of", "recorded"]

_ROOT = 0
_CHANGING = frozenset("os.rename os.remove os.mkdir os.rmdir os.link os.symlink os.truncate".split())  # noqa: SIM905
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

Name = tuple[int, str]
"""An entry: the folder's identity, and the name in it."""


class Fate(Enum):
    """What becomes of data that was not fsynced."""

    LOST = auto()
    KEPT = auto()
    HALF = auto()
    ZEROS = auto()
    EMPTY = auto()


class _Kind(Enum):
    FILE = auto()
    FOLDER = auto()
    LINK = auto()


@dataclass(frozen=True, slots=True)
class _Data:
    """A file's whole content after a write."""

    file: int
    content: bytes


@dataclass(frozen=True, slots=True)
class _Entries:
    """Entries that change in one step; None for one that is removed."""

    changes: tuple[tuple[Name, int | None], ...]

    @property
    def folders(self) -> set[int]:
        return {folder for (folder, _), _ in self.changes}


@dataclass(frozen=True, slots=True)
class _Sync:
    """An fsync of a file or a folder."""

    target: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """Where the power went, and what was on its way to the disk."""

    at: int  # so many steps were made
    entries: tuple[int, ...]
    """Numbers of the steps whose entries were not fsynced, in order."""
    files: tuple[int, ...]
    """Files with data that was not fsynced."""


@dataclass(slots=True)
class _Tree:
    """A folder's content by identity."""

    entries: dict[Name, int] = field(default_factory=dict)
    data: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A state of the folder: what leads where, folders before what is in them, and the contents."""

    entries: tuple[tuple[str, _Kind, int], ...]
    data: Mapping[int, bytes]

    @property
    def digest(self) -> str:
        """Tells one state from another: names, contents, links."""
        digest = hashlib.sha256()
        first: dict[int, str] = {}
        for name, kind, number in self.entries:
            same = first.setdefault(number, name)
            content = same.encode() if same != name else self.data.get(number, b"")
            digest.update(f"{name}\0{kind.name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()

    def write(self, into: Path, *, age_s: float = 0.0) -> None:
        """Make it; the folder does not exist. Files say that they were written that long ago."""
        written = time.time() - age_s
        into.mkdir(mode=0o700)
        made: dict[int, Path] = {}
        for name, kind, number in self.entries:
            path = into / name
            if kind is _Kind.FOLDER:
                path.mkdir(mode=0o700)
            elif number in made:
                path.hardlink_to(made[number])
            else:
                made[number] = path
                _write(path, kind, self.data.get(number, b""))
                os.utime(path, (written, written), follow_symlinks=False)


@dataclass(slots=True)
class Recording:
    """What was done to a folder."""

    root: Path
    steps: list[_Data | _Entries | _Sync] = field(default_factory=list)
    _kinds: dict[int, _Kind] = field(default_factory=lambda: {_ROOT: _Kind.FOLDER})
    _ids: dict[int, int] = field(default_factory=dict)
    """Identity by inode number, of what is there now: the system gives numbers out again."""
    _next: int = 1
    _before: _Tree = field(default_factory=_Tree)
    _now: _Tree = field(default_factory=_Tree)

    def begin(self) -> None:
        """Take what is there for what is on disk."""
        self._now = self._scan()
        self._before = _Tree(entries=dict(self._now.entries), data=dict(self._now.data))

    def look(self) -> None:
        """Note what was done since the last look."""
        last, self._now = self._now, self._scan()
        names = sorted(last.entries.keys() | self._now.entries.keys())
        changes = tuple(
            (name, self._now.entries.get(name))
            for name in names
            if last.entries.get(name) != self._now.entries.get(name)
        )
        if changes:
            _check_one_step(changes, last.entries)
            self.steps.append(_Entries(changes))
        for file, content in self._now.data.items():
            if self._kinds[file] is _Kind.LINK:
                self._before.data.setdefault(file, content)
            elif last.data.get(file, b"") != content:
                self.steps.append(_Data(file, content))

    def synced(self, descriptor: int) -> None:
        """Note an fsync that has returned."""
        target = self._ids.get(os.fstat(descriptor).st_ino)
        if target is not None:
            self.steps.append(_Sync(target))

    def crashes(self) -> Iterator[Crash]:
        """Every prefix of the record."""
        return (self.crash(at) for at in range(len(self.steps) + 1))

    def crash(self, at: int) -> Crash:
        """The prefix of so many steps."""
        syncs: dict[int, int] = {}
        entries: list[int] = []
        dirty: dict[int, None] = {}
        for number, step in enumerate(self.steps[:at]):
            match step:
                case _Sync(target):
                    syncs[target] = number
                    dirty.pop(target, None)
                case _Data(file):
                    dirty[file] = None
                case _Entries():
                    entries.append(number)
        waiting = tuple(number for number in entries if not self._is_synced(number, syncs))
        return Crash(at=at, entries=waiting, files=tuple(dirty))

    def outcome(self, crash: Crash, *, entries: Iterable[int], fate: Callable[[int], Fate]) -> Outcome:
        """What the disk may hold after a crash.

        Args:
            crash: Of this record.
            entries: Which of `crash.entries` reached the disk.
            fate: What became of each of `crash.files`.
        """
        reached = set(entries)
        lost = {number for number in crash.entries if number not in reached}
        tree = dict(self._before.entries)
        synced, latest = dict(self._before.data), dict(self._before.data)
        for number, step in enumerate(self.steps[: crash.at]):
            match step:
                case _Data(file, content):
                    latest[file] = content
                case _Sync(target):
                    synced[target] = latest.get(target, b"")
                case _Entries(changes) if number not in lost:
                    for name, target_or_none in changes:
                        _set(tree, name, target_or_none)
                case _:
                    pass
        for file in crash.files:
            latest[file] = _torn(synced.get(file, b""), latest.get(file, b""), fate(file))
        children: dict[int, list[tuple[str, int]]] = {}
        for (folder, entry), number in tree.items():
            children.setdefault(folder, []).append((entry, number))
        return Outcome(tuple(_walk(children, self._kinds, _ROOT, "")), latest)

    def describe(self, crash: Crash) -> str:
        """The steps around a crash, for the message of a test that fails."""
        names = {number: name for (_, name), number in self._now.entries.items()}
        for step in self.steps:
            if isinstance(step, _Entries):
                names.update({target: name for (_, name), target in step.changes if target is not None})
        return "\n".join(
            _describe(number, self.steps[number], names)
            for number in range(max(0, crash.at - 8), min(len(self.steps), crash.at + 2))
        )

    def _is_synced(self, number: int, syncs: Mapping[int, int]) -> bool:
        step = self.steps[number]
        return isinstance(step, _Entries) and any(syncs.get(folder, -1) > number for folder in step.folders)

    def _scan(self) -> _Tree:
        tree = _Tree()
        seen = {self.root.stat().st_ino: _ROOT}
        open_folders = [(self.root, _ROOT)]
        while open_folders:
            path, folder = open_folders.pop()
            with os.scandir(path) as found:
                for entry in found:
                    status = entry.stat(follow_symlinks=False)
                    number = seen.get(status.st_ino)
                    if number is None:
                        number = seen[status.st_ino] = self._identity(status)
                        if self._kinds[number] is _Kind.FOLDER:
                            open_folders.append((Path(entry.path), number))
                        else:
                            tree.data[number] = _read(Path(entry.path), self._kinds[number])
                    tree.entries[folder, entry.name] = number
        self._ids = seen
        return tree

    def _identity(self, status: os.stat_result) -> int:
        number = self._ids.get(status.st_ino)
        kind = _kind(status)
        if number is None or self._kinds[number] is not kind:
            number, self._next = self._next, self._next + 1
            self._kinds[number] = kind
        return number


@contextmanager
def recorded(root: Path) -> Iterator[Recording]:
    """Record what this thread does to a folder."""
    recording = Recording(root)
    recording.begin()
    mine = threading.get_ident()
    state = {"on": True, "busy": False}

    def look() -> None:
        if state["on"] and not state["busy"] and threading.get_ident() == mine:
            state["busy"] = True
            try:
                recording.look()
            finally:
                state["busy"] = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        changes = event in _CHANGING or (event == "open" and _opens_to_write(arguments))
        if changes and state["on"]:
            look()

    genuine = os.fsync

    def fsync(descriptor: int) -> None:
        look()
        genuine(descriptor)
        if threading.get_ident() == mine:
            recording.synced(descriptor)

    sys.addaudithook(hook)  # for good: it is told to be quiet below
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(os, "fdatasync", fsync)
        yield recording
    look()
    state["on"] = False


def outcome_of(root: Path) -> Outcome:
    """A folder as it is."""
    recording = Recording(root)
    recording.begin()
    return recording.outcome(recording.crash(0), entries=(), fate=lambda _: Fate.KEPT)


def _walk(
    children: Mapping[int, list[tuple[str, int]]], kinds: Mapping[int, _Kind], folder: int, path: str
) -> Iterator[tuple[str, _Kind, int]]:
    for name, number in sorted(children.get(folder, ())):
        yield f"{path}{name}", kinds[number], number
        if kinds[number] is _Kind.FOLDER:
            yield from _walk(children, kinds, number, f"{path}{name}/")


def _opens_to_write(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2] if len(arguments) > 2 else 0
    return isinstance(flags, int) and bool(flags & _WRITES)


def _check_one_step(changes: tuple[tuple[Name, int | None], ...], last: Mapping[Name, int]) -> None:
    """One call makes or removes one entry, or moves one: more at once, and a call went unseen."""
    made = [(name, number) for name, number in changes if number is not None]
    removed = [last[name] for name, number in changes if number is None]
    moved = len(made) == len(removed) == 1 and made[0][1] == removed[0]
    if len(changes) != 1 and not moved:
        raise AssertionError(f"more than one change between two calls: {changes}")


def _kind(status: os.stat_result) -> _Kind:
    if stat.S_ISDIR(status.st_mode):
        return _Kind.FOLDER
    return _Kind.LINK if stat.S_ISLNK(status.st_mode) else _Kind.FILE


def _read(path: Path, kind: _Kind) -> bytes:
    return os.fsencode(path.readlink()) if kind is _Kind.LINK else path.read_bytes()


def _write(path: Path, kind: _Kind, content: bytes) -> None:
    if kind is _Kind.LINK:
        path.symlink_to(os.fsdecode(content))
    else:
        path.write_bytes(content)
        path.chmod(0o600)


def _set(tree: dict[Name, int], name: Name, number: int | None) -> None:
    if number is None:
        tree.pop(name, None)
    else:
        tree[name] = number


def _torn(synced: bytes, latest: bytes, fate: Fate) -> bytes:
    # What an fsync put on disk stays there, unless it was overwritten since.
    sound = synced if latest.startswith(synced) else b""
    match fate:
        case Fate.LOST:
            return synced
        case Fate.KEPT:
            return latest
        case Fate.EMPTY:
            return sound
        case Fate.HALF:
            return latest[: (len(sound) + len(latest)) // 2]
        case Fate.ZEROS:
            return sound + bytes(len(latest) - len(sound))


def _describe(number: int, step: _Data | _Entries | _Sync, names: Mapping[int, str]) -> str:
    match step:
        case _Data(file, content):
            text = f"write {names.get(file, '?')}, now {len(content)} bytes"
        case _Sync(target):
            text = f"fsync {names.get(target, 'the store')}"
        case _Entries(changes):
            told = ((f"{names.get(folder, '.')}/{name}", target) for (folder, name), target in changes)
            text = ", ".join(f"{'-' if target is None else '+'}{name}" for name, target in told)
    return f"{number}: {text}"
