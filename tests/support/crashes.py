"""Stops a process, so to speak, or fills its disk, at the n-th thing it does to its file system."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

__all__ = ["CALLS", "Journalled", "PowerCut", "watched"]

CALLS = ("fsync", "replace", "rename", "unlink", "link", "mkdir", "rmdir", "symlink", "truncate", "write")
"""What changes a disk; `write` stands for the opening of a file to write to."""


class PowerCut(BaseException):
    """Nothing catches it, and nothing after it reaches the disk."""


@dataclass(slots=True)
class Journalled:
    """What this thread did to the disk, and where it stops."""

    stop_at: int | None = None
    full: bool = False
    """Fail with ENOSPC instead, that one call and no other."""
    done: list[str] = field(default_factory=list)
    cut: bool = False

    def step(self, call: str, path: object) -> None:
        """One change is about to be made."""
        if self.cut:
            raise PowerCut(call)
        number = len(self.done)
        self.done.append(f"{call} {path}")
        if number == self.stop_at:
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            self.cut = True
            raise PowerCut(self.done[-1])


@contextmanager
def watched(*, stop_at: int | None = None, full: bool = False) -> Iterator[Journalled]:
    """Watch the calls of this thread; the server's, in other threads, pass."""
    journal = Journalled(stop_at=stop_at, full=full)
    mine = threading.get_ident()
    with pytest.MonkeyPatch.context() as patch:

        def guard(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
            def guarded(*arguments: Any, **options: Any) -> Any:
                if threading.get_ident() == mine:
                    journal.step(name, arguments[0])
                return function(*arguments, **options)

            return guarded

        for call in CALLS[:-2]:
            patch.setattr(os, call, guard(call, getattr(os, call)))
        genuine_open = os.open

        def guarded_open(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            if threading.get_ident() == mine and flags & (os.O_WRONLY | os.O_RDWR):
                journal.step("write", path)
            return genuine_open(path, flags, *arguments, **options)

        patch.setattr(os, "open", guarded_open)
        # Its fast path holds on to os.unlink and os.rmdir by dir_fd, which the patches serve, too.
        patch.setattr(shutil, "_use_fd_functions", shutil._use_fd_functions)  # type: ignore[attr-defined]
        yield journal
