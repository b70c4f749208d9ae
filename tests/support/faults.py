"""Disks that fail and processes that die at the n-th operation on a file."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

__all__ = ["Crash", "Faults", "disk_full"]


class Crash(BaseException):
    """The process dies here: no handler for errors runs, as in a real death."""


def disk_full() -> OSError:
    """What a full disk says."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Faults:
    """Counts the durable steps of the server's file writing and fails at one of them.

    Steps are: create a staged file, write into it, sync it, rename it, sync its folder.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._at: int | None = None
        self._make: Callable[[], BaseException] = Crash
        monkeypatch.setattr(os, "open", self._before(os.open))
        monkeypatch.setattr(os, "fdopen", self._opened(os.fdopen))
        monkeypatch.setattr(os, "fsync", self._before(os.fsync))
        monkeypatch.setattr(Path, "replace", self._before(Path.replace))

    @contextmanager
    def at(self, step: int | None, make: Callable[[], BaseException]) -> Iterator[None]:
        """Count from zero, and fail before `step`."""
        self.count, self._at, self._make = 0, step, make
        try:
            yield
        finally:
            self._at = None

    def _step(self) -> None:
        number, self.count = self.count, self.count + 1
        if number == self._at:
            self._at = None  # cleaning up behind the failure works
            raise self._make()

    def _before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self._step()
            return function(*arguments, **named)

        return call

    def _opened(self, function: Callable[..., Any]) -> Callable[..., Any]:
        faults = self

        def call(*arguments: Any, **named: Any) -> Any:
            stream = function(*arguments, **named)
            if not isinstance(stream, io.BufferedWriter):
                return stream
            write = stream.write

            class Torn:
                """The stream, whose write may stop half-way."""

                def __getattr__(self, name: str) -> Any:
                    return getattr(stream, name)

                def __enter__(self) -> Self:
                    return self

                def __exit__(self, *_: object) -> None:
                    stream.close()

                def write(self, data: bytes) -> int:
                    try:
                        faults._step()
                    except BaseException:
                        write(data[: len(data) // 2])
                        raise
                    return write(data)

            return Torn()

        return call
