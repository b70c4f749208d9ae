"""Name groups of devices by a rule over their attributes and tags.

  ferry cohort set europe '{"region": "eu", "ram_bytes": {"$gte": 1000000000}}'
  ferry cohort preview europe
  ferry cohort list

Rules are written in GrowthBook's condition language.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from ferry_cli.client import add_server_options, connect
from ferry_cli.output import show_fields, show_json, show_rows
from ota_contract.conditions import parse_condition
from ota_contract.errors import ConditionError

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    setting = actions.add_parser("set", help="create or change a cohort")
    setting.add_argument("name")
    setting.add_argument("rule", metavar="RULE", help='JSON such as {"region": "eu"}')
    listing = actions.add_parser("list", help="every cohort with its rule")
    preview = actions.add_parser("preview", help="how many and which known devices a cohort selects")
    preview.add_argument("name", metavar="NAME_OR_RULE")
    for action, handler in ((setting, _set), (listing, _list), (preview, _preview)):
        add_server_options(action)
        action.set_defaults(handler=handler)


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen action."""
    arguments.handler(arguments)
    return 0


def _set(arguments: argparse.Namespace) -> None:
    rule = _rule(arguments.rule)
    cohort = connect(arguments).put("cohorts", arguments.name, body={"condition": rule})
    if arguments.json:
        show_json(cohort)
    else:
        show_fields({"cohort": arguments.name, "rule": rule})


def _list(arguments: argparse.Namespace) -> None:
    cohorts = connect(arguments).get("cohorts")["cohorts"]
    if arguments.json:
        show_json(cohorts)
    else:
        show_rows(cohorts, {"name": "COHORT", "condition": "RULE"}, empty="no cohorts")


def _preview(arguments: argparse.Namespace) -> None:
    client = connect(arguments)
    if arguments.name.lstrip().startswith("{"):
        preview = client.post("cohorts", "preview", body={"condition": _rule(arguments.name)})
    else:
        preview = client.get("cohorts", arguments.name, "preview")
    if arguments.json:
        show_json(preview)
        return
    show_fields(
        {
            "selects": f"{preview['matching']} of {preview['total']} known devices",
            "for example": preview["devices"],
        }
    )


def _rule(text: str) -> dict[str, Any]:
    """Check a rule here already, where the person who typed it can mend it."""
    try:
        rule = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConditionError(f"the rule is not JSON: {error}") from error
    return dict(parse_condition(rule).rule)
