"""List, show and withdraw releases.

ferry release list vision/digits
ferry release show vision/digits 1.1.0
ferry release withdraw vision/digits 1.1.0      no new rollout may name it
"""

from __future__ import annotations

import argparse

from ferry_cli.client import add_server_options, connect
from ferry_cli.output import show_fields, show_json, show_rows
from ota_contract.names import parse_model

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the releases of a model, newest first")
    showing = actions.add_parser("show", help="one release with its variants")
    withdrawing = actions.add_parser("withdraw", help="keep a release out of new rollouts")
    for action, handler in ((listing, _list), (showing, _show), (withdrawing, _withdraw)):
        action.add_argument("model", metavar="PUBLISHER/MODEL")
        if action is not listing:
            action.add_argument("version")
        add_server_options(action)
        action.set_defaults(handler=handler)


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen action."""
    parse_model(arguments.model)
    arguments.handler(arguments)
    return 0


def _list(arguments: argparse.Namespace) -> None:
    releases = connect(arguments).get("models", arguments.model, "releases")["releases"]
    if arguments.json:
        show_json(releases)
        return
    columns = {"version": "VERSION", "counter": "COUNTER", "published": "PUBLISHED", "withdrawn": "WITHDRAWN"}
    show_rows(releases, columns, empty="no releases yet")


def _show(arguments: argparse.Namespace) -> None:
    release = connect(arguments).get("models", arguments.model, "releases", arguments.version)
    if arguments.json:
        show_json(release)
        return
    manifest = release.pop("manifest", {})
    show_fields(release)
    rows = (
        {
            "id": variant["id"],
            "runtime": variant["runtime"],
            "precision": variant["precision"],
            "bytes": variant["metrics"]["size_bytes"],
            "verification": variant["verification"]["status"],
        }
        for variant in manifest.get("variants", [])
    )
    columns = {
        "id": "VARIANT",
        "runtime": "RUNTIME",
        "precision": "PRECISION",
        "bytes": "BYTES",
        "verification": "VERIFICATION",
    }
    show_rows(rows, columns, empty="no variants")


def _withdraw(arguments: argparse.Namespace) -> None:
    path = ("models", arguments.model, "releases", arguments.version, "withdraw")
    release = connect(arguments).post(*path)
    if arguments.json:
        show_json(release)
    else:
        show_fields({"withdrawn": f"{arguments.model} {arguments.version}"})
