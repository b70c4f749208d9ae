"""How many passes this machine has processors and memory for."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["available_bytes", "processors"]

_KIBIBYTE = 1024
_GROUPS = Path("/sys/fs/cgroup")


def processors(*, groups: Path = _GROUPS) -> int:
    """Processors this process may use: its affinity, and the quota of its control group."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        count = os.cpu_count() or 1
    quota = _quota(groups)
    return max(1, min(count, math.ceil(quota)) if quota else count)


def available_bytes(*, groups: Path = _GROUPS, meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Memory that can be had without swapping, within the control group's limit; None where nothing tells."""
    known = [value for value in (_free(meminfo), _left(groups)) if value is not None]
    return min(known, default=None)


def _free(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    words = fields.get("MemAvailable", "").split()
    return int(words[0]) * _KIBIBYTE if words else None


def _left(groups: Path) -> int | None:
    """Of the control group's limit, version 2 or 1; page cache counts as free, since it can be dropped."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, now = _number(groups / limit), _number(groups / used)
        if most is not None and now is not None:
            return max(0, most - now + _statistic((groups / used).with_name("memory.stat"), cache))
    return None


def _quota(groups: Path) -> float | None:
    """Processors' worth of time per period."""
    try:
        words = (groups / "cpu.max").read_text().split()
    except OSError:
        quota, period = _number(groups / "cpu/cpu.cfs_quota_us"), _number(groups / "cpu/cpu.cfs_period_us")
        return quota / period if quota and period else None
    return int(words[0]) / int(words[1]) if words and words[0].isdigit() else None


def _number(path: Path) -> int | None:
    """The file's number; None where it is missing or says there is no limit."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _statistic(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)
