"""Real processes as the kernel lists them: which self-tests run, and whether they are gone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

__all__ = ["ended", "self_tests_of"]


def self_tests_of(folder: Path) -> list[int]:
    """Process ids of the self-tests that run on anything below a folder."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0") if process.name.isdecimal() else []
            is_below = any(word.startswith(str(folder).encode()) for word in words)
            if is_below and any(b"device_sdk.self_test_child" in word for word in words):
                found.append(int(process.name))
    return found


def ended(processes: Iterable[int], *, within_s: float) -> bool:
    """Whether all are gone, or zombies nobody has reaped yet, in that time."""
    until = time.monotonic() + within_s
    left = list(processes)
    while left := [process for process in left if _runs(process)]:
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def _runs(process: int) -> bool:
    """Whether any of its threads does: the first may be gone while another still holds the files open."""
    try:
        threads = list(Path(f"/proc/{process}/task").iterdir())
    except OSError:
        return False
    return any(map(_thread_runs, threads))


def _thread_runs(thread: Path) -> bool:
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
