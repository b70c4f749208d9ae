"""List, show, tag and forget devices.

ferry device list --cohort europe
ferry device show camera-7
ferry device tag camera-7 beta indoor      replaces its tags
ferry device forget camera-7               it may enrol again
"""

from __future__ import annotations

import argparse
from typing import Any

from ferry_cli.client import add_server_options, connect
from ferry_cli.output import show_fields, show_json, show_rows
from ota_contract.names import check_device_id

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="devices, what they run and when they last reported")
    listing.add_argument("--cohort", help="only those a cohort selects")
    listing.add_argument("--limit", type=int, default=100, help="at most this many (default %(default)s)")
    showing = actions.add_parser("show", help="one device")
    tagging = actions.add_parser("tag", help="replace a device's tags")
    forgetting = actions.add_parser("forget", help="remove a device and its token")
    for action, handler in (
        (listing, _list),
        (showing, _show),
        (tagging, _tag),
        (forgetting, _forget),
    ):
        if action is not listing:
            action.add_argument("device")
        if action is tagging:
            action.add_argument("tags", nargs="*", metavar="TAG")
        add_server_options(action)
        action.set_defaults(handler=handler)


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen action."""
    if "device" in arguments:
        check_device_id(arguments.device)
    arguments.handler(arguments)
    return 0


def _list(arguments: argparse.Namespace) -> None:
    answer = connect(arguments).get("devices", cohort=arguments.cohort, limit=arguments.limit)
    devices = answer["devices"]
    if arguments.json:
        show_json(devices)
        return
    columns = {
        "id": "DEVICE",
        "hardware": "HARDWARE",
        "region": "REGION",
        "tags": "TAGS",
        "live": "LIVE",
        "last_seen": "LAST SEEN",
    }
    rows = ({**device, "live": _lines(device.get("live", {}))} for device in devices)
    show_rows(rows, columns, empty="no devices have enrolled yet")


def _show(arguments: argparse.Namespace) -> None:
    device = connect(arguments).get("devices", arguments.device)
    if arguments.json:
        show_json(device)
        return
    history = device.pop("history", [])
    show_fields({**device, "live": _lines(device.get("live", {}))})
    columns = {"at": "AT", "release": "RELEASE", "what": "WHAT"}
    show_rows(map(_event, history), columns, empty="no reports yet")


def _lines(live: dict[str, str]) -> list[str]:
    return [f"{model} {version}" for model, version in live.items()]


def _event(report: dict[str, Any]) -> dict[str, str]:
    release = f"{report['model']} {report['version']}"
    transition = report.get("transition")
    if transition:
        what = f"{transition['state'].replace('_', ' ')}: {transition['reason']}"
        return {"at": transition["at"], "release": release, "what": what}
    window = report["window"]
    what = f"{window['inferences']} inferences, {window['errors']} errors"
    return {"at": window["ended"], "release": release, "what": what}


def _tag(arguments: argparse.Namespace) -> None:
    body = {"tags": arguments.tags}
    device = connect(arguments).put("devices", arguments.device, "tags", body=body)
    if arguments.json:
        show_json(device)
    else:
        show_fields({"device": arguments.device, "tags": arguments.tags})


def _forget(arguments: argparse.Namespace) -> None:
    connect(arguments).delete("devices", arguments.device)
    if arguments.json:
        show_json({"forgotten": arguments.device})
    else:
        show_fields({"forgotten": arguments.device})
