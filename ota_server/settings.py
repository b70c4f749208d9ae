"""What an operator may choose; read once, by a command or a test, and passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ota_server.errors import KeyFileError

__all__ = ["GIBIBYTE", "Secrets", "Settings", "no_secrets"]

GIBIBYTE = 1024**3
Secrets = Callable[[str], str]
"""Asked for a passphrase or PIN by what it opens; raises KeyFileError where there is none."""


def no_secrets(what: str) -> str:
    """The secrets of somebody who was given none."""
    raise KeyFileError(
        f"{what} is encrypted; give its passphrase with --passphrase-file or in FERRY_KEY_PASSPHRASE"
    )


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
    secrets: Secrets = no_secrets
    """Opens encrypted online keys."""
