"""Create the keys and the first signed metadata.

  ferry keys init keys --publisher vision

writes:
  keys/root.json              trust root: give it to every device
  keys/offline/               root and targets keys: keep them off any network
  keys/publishers/vision.pem  the publisher's key: give it to the publisher, and to nobody else
  keys/server/                the server's data folder: ferry serve --data keys/server

Key files are not encrypted: they are for development. Existing keys are never overwritten.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from ota_server.errors import SetupError

__all__ = ["configure", "run"]

_THRESHOLD = re.compile(r"([1-9])/([1-9])")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    init = actions.add_parser("init", help="create every key and the first metadata")
    init.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    init.add_argument(
        "--publisher", action="append", default=[], metavar="NAME", help="who publishes; may be repeated"
    )
    init.add_argument(
        "--root", default="2/3", metavar="K/N", help="K of N root keys must sign (default %(default)s)"
    )
    init.add_argument(
        "--targets", default="1/1", metavar="K/N", help="the same for the targets role (default %(default)s)"
    )
    init.add_argument("--json", action="store_true", help="print the paths as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run `ferry keys init`."""
    from datetime import UTC, datetime  # noqa: PLC0415 - beside the imports it goes with

    from ota_server.adapters.keys import Threshold, init_keys  # noqa: PLC0415 - `--help` stays quick

    def threshold(text: str, option: str) -> Threshold:
        match = _THRESHOLD.fullmatch(text)
        if match is None or int(match[1]) > int(match[2]):
            raise SetupError(f"{option} {text!r} is not K/N with K at most N, such as 2/3")
        return Threshold(needed=int(match[1]), keys=int(match[2]))

    made = init_keys(
        arguments.folder,
        arguments.publisher,
        root=threshold(arguments.root, "--root"),
        targets=threshold(arguments.targets, "--targets"),
        now=datetime.now(UTC),
    )
    paths = {
        "trust root, for every device": made.root,
        "offline keys, for no network": made.offline,
        **{f"key of publisher {path.stem}": path for path in made.publishers},
        "data folder of ferry serve": made.server,
    }
    if arguments.json:
        document = {
            "root": str(made.root),
            "offline": str(made.offline),
            "publishers": {path.stem: str(path) for path in made.publishers},
            "server": str(made.server),
        }
        sys.stdout.write(json.dumps(document) + "\n")
        return 0
    width = max(map(len, paths))
    for name, path in paths.items():
        sys.stdout.write(f"{name:<{width}}  {path}\n")
    return 0
