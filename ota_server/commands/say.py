"""Printing a result: JSON for other programs, lines for people."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

__all__ = ["say"]


def say(arguments: argparse.Namespace, document: object, lines: Sequence[str]) -> None:
    """Print `document` where `--json` was given, else `lines`."""
    sys.stdout.write((json.dumps(document) if arguments.json else "\n".join(lines)) + "\n")
