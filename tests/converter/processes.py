"""The processes a test looks after."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import pytest

__all__ = ["await_end", "children_of", "runs"]

_PATIENCE_S = 20.0


def children_of(pid: int) -> list[int]:
    """The processes that any thread of a process started and that still run."""
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in listed for child in path.read_text().split()]


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def await_end(pids: Iterable[int]) -> None:
    """Wait until every process has ended."""
    deadline = time.monotonic() + _PATIENCE_S
    waiting = list(pids)
    while waiting and time.monotonic() < deadline:
        waiting = [pid for pid in waiting if runs(pid)]
        time.sleep(0.02)
    if waiting:
        pytest.fail(f"processes {waiting} still run")
