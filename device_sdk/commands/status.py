"""Show what is installed, how the update stands, and what the agent has been doing.

Reads the store alone: it works while the agent runs elsewhere, and without a network.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare no further arguments."""
    del parser


def run(arguments: argparse.Namespace) -> int:
    """Print the status."""
    from device_sdk.config import read_config  # noqa: PLC0415 - `--help` stays quick
    from device_sdk.status import describe, read_status  # noqa: PLC0415

    status = read_status(read_config(Path(arguments.config)))
    text = json.dumps(status, indent=2) if arguments.json else describe(status)
    sys.stdout.write(f"{text}\n")
    return 0
