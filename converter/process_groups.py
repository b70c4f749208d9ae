"""How much memory a process and everything it started take.

Linux tells through /proc. Elsewhere `ps` is asked, and where that is missing too, nothing is known and only
time is capped.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

__all__ = ["group_resident_bytes", "resident_bytes"]

_PROC = Path("/proc")
_KIBIBYTE = 1024
_PS_TIMEOUT_S = 5.0


def resident_bytes(pid: int) -> int:
    """Resident memory of one process; 0 where the system does not tell, or it is gone."""
    try:
        pages = int((_PROC / str(pid) / "statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def group_resident_bytes(leader: int) -> int:
    """Resident memory of all processes of a session or group, by the pid of its leader.

    Pages that several of them share count for each: the sum may be too high, never too low.
    """
    if (_PROC / "self" / "stat").exists():
        return sum(map(resident_bytes, _members(leader)))
    return _asked_of_ps(leader)


def _members(leader: int) -> list[int]:
    found = []
    for entry in os.scandir(_PROC):
        if not entry.name.isdigit():
            continue
        try:
            # After the name, which may hold anything: state, parent, group, session.
            fields = (_PROC / entry.name / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:  # ended meanwhile
            continue
        if leader in (int(fields[2]), int(fields[3])):
            found.append(int(entry.name))
    return found


def _asked_of_ps(leader: int) -> int:
    try:
        listed = subprocess.run(
            ["ps", "-A", "-o", "pgid=,rss="],  # noqa: S607 - wherever the system has it
            capture_output=True,
            text=True,
            timeout=_PS_TIMEOUT_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    rows = (line.split() for line in listed.splitlines())
    return sum(int(row[1]) * _KIBIBYTE for row in rows if row and int(row[0]) == leader)
