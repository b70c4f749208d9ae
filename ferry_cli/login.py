"""Remember a server and an access token for later commands.

ferry login http://127.0.0.1:8000                 asks for the token
echo "$TOKEN" | ferry login http://127.0.0.1:8000 reads it from a pipe
"""

from __future__ import annotations

import argparse
import getpass
import sys

from ferry_cli.client import Client
from ferry_cli.credentials import Credentials, remember
from ferry_cli.errors import CommandError, NotLoggedInError
from ferry_cli.output import show_json

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("server", metavar="URL", help="the server, such as https://ferry.example.com")
    parser.add_argument("--token", help="the token; without it, it is asked for or read from a pipe")
    parser.add_argument("--json", action="store_true", help="print JSON for other programs")


def run(arguments: argparse.Namespace) -> int:
    """Try the token on the server, then keep both."""
    token = (arguments.token or _ask()).strip()
    if not token:
        raise NotLoggedInError(
            "an empty token was given; the server's operator makes one: ferry token create"
        )
    credentials = Credentials(server=arguments.server.rstrip("/"), token=token)
    who = Client(credentials).get("whoami")
    if not isinstance(who, dict) or not {"name", "role"} <= who.keys():
        raise CommandError(f"{credentials.server} is not a Ferry server: it does not say who is asking")
    path = remember(credentials)
    if arguments.json:
        show_json({"server": credentials.server, "file": str(path), **who})
    else:
        sys.stdout.write(f"logged in to {credentials.server} as {who['name']} ({who['role']})\n")
    return 0


def _ask() -> str:
    return getpass.getpass("token: ") if sys.stdin.isatty() else sys.stdin.readline()
