"""List the models on a server."""

from __future__ import annotations

import argparse

from ferry_cli.client import add_server_options, connect
from ferry_cli.output import show_json, show_rows

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="every model with its latest release")
    add_server_options(listing)


def run(arguments: argparse.Namespace) -> int:
    """Run `ferry model list`."""
    models = connect(arguments).get("models")["models"]
    if arguments.json:
        show_json(models)
        return 0
    columns = {"model": "MODEL", "latest": "LATEST", "releases": "RELEASES"}
    show_rows(models, columns, empty="no models yet; `ferry publish PACKAGE_DIR` brings one")
    return 0
