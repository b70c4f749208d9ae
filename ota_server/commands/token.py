"""Create, list and revoke access tokens, on the server's machine.

  ferry token create alice --role fleet_manager --data keys/server
  ferry token create ci --role publisher --publisher vision --data keys/server
  ferry token create factory --role enrolment --data keys/server      lets devices enrol
  ferry token revoke alice --data keys/server

A token is shown once; the server keeps only its digest. It works while the server runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from ota_server.domain.access import Principal, Role

__all__ = ["configure", "run"]

_ROLES = [role.value for role in Role if role is not Role.DEVICE]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    create = actions.add_parser("create", help="issue a token and print it")
    create.add_argument("name", help="whose it is; shown in rollouts")
    create.add_argument("--role", choices=_ROLES, required=True)
    create.add_argument("--publisher", default="", help="with role publisher: as whom it publishes")
    listing = actions.add_parser("list", help="every token's name and role")
    revoke = actions.add_parser("revoke", help="make a token worthless")
    revoke.add_argument("name")
    for action, handler in ((create, _create), (listing, _list), (revoke, _revoke)):
        action.add_argument("--data", type=Path, required=True, metavar="DIR", help="the server's folder")
        action.add_argument("--json", action="store_true", help="print JSON for other programs")
        action.set_defaults(handler=handler)


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen action."""
    arguments.handler(arguments)
    return 0


def _create(arguments: argparse.Namespace) -> None:
    from ota_server.adapters.registry import open_registry  # noqa: PLC0415 - `--help` stays quick
    from ota_server.adapters.repository import TufRepository  # noqa: PLC0415
    from ota_server.operations.access import create_token  # noqa: PLC0415

    principal = Principal(name=arguments.name, role=Role(arguments.role), publisher=arguments.publisher)
    with closing(open_registry(arguments.data)) as registry:
        if arguments.publisher:
            TufRepository(arguments.data, _now).publisher_metadata(arguments.publisher)  # refuses a stranger
        token = create_token(registry, principal, _now)
    _say(arguments, {"name": arguments.name, "role": arguments.role, "token": token}, token)


def _now() -> datetime:
    return datetime.now(UTC)


def _list(arguments: argparse.Namespace) -> None:
    from ota_server.adapters.registry import open_registry  # noqa: PLC0415
    from ota_server.operations.access import list_tokens  # noqa: PLC0415

    with closing(open_registry(arguments.data)) as registry:
        tokens = list_tokens(registry)
    rows = [
        {
            "name": record.principal.name,
            "role": record.principal.role.value,
            "publisher": record.principal.publisher,
            "created": record.created.isoformat(timespec="seconds"),
        }
        for record in tokens
    ]
    lines = [
        f"{row['name']:<20} {row['role']:<14} {row['publisher'] or '–':<14} {row['created']}" for row in rows
    ]
    _say(arguments, rows, "\n".join(lines) or "no tokens yet; `ferry token create` issues one")


def _revoke(arguments: argparse.Namespace) -> None:
    from ota_server.adapters.registry import open_registry  # noqa: PLC0415
    from ota_server.operations.access import revoke_token  # noqa: PLC0415

    with closing(open_registry(arguments.data)) as registry:
        revoke_token(registry, arguments.name)
    _say(arguments, {"revoked": arguments.name}, f"revoked {arguments.name}")


def _say(arguments: argparse.Namespace, document: object, text: str) -> None:
    sys.stdout.write((json.dumps(document) if arguments.json else text) + "\n")
