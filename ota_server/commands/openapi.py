"""Write the API's OpenAPI document.

ferry openapi > openapi.json
"""

from __future__ import annotations

import argparse
import json
import sys

__all__ = ["configure", "document", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare no arguments."""
    del parser


def run(arguments: argparse.Namespace) -> int:
    """Print it."""
    del arguments
    sys.stdout.write(document())
    return 0


def document() -> str:
    """The document of this version, the same bytes every time."""
    from ota_server.api.routes import build  # noqa: PLC0415 - `--help` stays quick

    # The routes describe themselves: no service is called, so none is needed.
    app = build(None)  # type: ignore[arg-type]
    return json.dumps(app.openapi(), indent=2, sort_keys=True) + "\n"
