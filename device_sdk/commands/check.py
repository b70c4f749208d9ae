"""Poll the server once, now; install what the policy assigns, and report.

Ends with 1 when the poll or the report failed, saying why. What runs is untouched by a failed poll; a
device that cannot report updates all the same, unseen by rollouts.
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
    """Poll and report once."""
    from device_sdk.agent import Agent  # noqa: PLC0415 - `--help` stays quick
    from device_sdk.config import read_config  # noqa: PLC0415
    from device_sdk.errors import DeviceError  # noqa: PLC0415

    with Agent(read_config(Path(arguments.config))) as agent:
        standing, failed = agent.poll_once()
        try:
            agent.report_now()
            reported = ""
        except DeviceError as error:
            reported = str(error)
    if arguments.json:
        ok = not (failed or reported)
        sys.stdout.write(json.dumps({"ok": ok, "standing": standing, "report": reported}) + "\n")
    else:
        sys.stdout.write(f"{standing}\n")
        if reported:
            sys.stderr.write(f"ferry-device: not reported: {reported}\n")
    return 1 if failed or reported else 0
