"""What an operator may choose; read once, by a command or a test, and passed in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["GIBIBYTE", "Settings"]

GIBIBYTE = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of one server."""

    data: Path
    """Folder of database, repository, keys and blobs."""
    poll_interval_s: int = 300
    """How often devices are asked to poll; a rollout may ask for its own."""
    tick_s: float = 2.0
    """Time between two runs of the reconciler; 0 runs it only when asked (tests)."""
    quota_bytes: int = 10 * GIBIBYTE
    """Bytes each publisher may store."""
