"""Make keys, and change them in ceremonies: prepare, sign, import.

  ferry keys init keys --publisher vision
writes:
  keys/root.json              trust root: give it to every device
  keys/offline/               root and targets keys: keep them off any network
  keys/publishers/vision.pem  the publisher's key: give it to the publisher, and to nobody else
  keys/server/                the server's data folder: ferry serve --data keys/server
Existing keys are never overwritten. Key files are encrypted when there is a passphrase.

A change of keys is prepared on the server's machine as a file, carried to those who sign it, and
imported; devices see nothing of it before, and all of it after:
  ferry keys new root-4.pem                                                makes root-4.pem and root-4.pub
  ferry keys rotate root --in root-4.pub --out 1a2b3c4d --data DIR -o change.json
  ferry keys sign change.json --key root-2.pem                            offline, each of those who have to
  ferry keys import change.json --data DIR
Where the keys are at hand one command does it all: give --key for each, and no -o.
docs/operations/keys.md has every ceremony, and a drill for each key that may be stolen.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ota_server.commands.passphrases import add_options

__all__ = ["configure", "run"]


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
    new = actions.add_parser("new", help="make one key: a private file, and a public one to hand in")
    new.add_argument("file", type=Path, metavar="FILE.pem", help="the private key; FILE.pub goes beside it")
    for action, handler in ((init, "init"), (new, "new")):
        add_options(action, new=True)
        action.add_argument("--json", action="store_true", help="print JSON for other programs")
        action.set_defaults(handler=handler)
    status = actions.add_parser(
        "status", help="versions, keys and expiry of every role; exit 1 if something needs a hand"
    )
    status.add_argument("--data", type=Path, required=True, metavar="DIR", help="the server's folder")
    status.add_argument(
        "--within",
        type=int,
        default=30,
        metavar="DAYS",
        help="warn of what people sign this long before it expires (default %(default)s)",
    )
    status.add_argument("--json", action="store_true", help="print JSON for other programs")
    status.set_defaults(handler="status")
    _configure_changes(actions)
    _configure_signing(actions)


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen action."""
    from ota_server.commands import ceremony_actions, key_actions  # noqa: PLC0415 - `--help` stays quick

    module = key_actions if arguments.handler in key_actions.__all__ else ceremony_actions
    code: int = getattr(module, arguments.handler)(arguments)
    return code


def _configure_changes(actions: Any) -> None:  # noqa: ANN401 - argparse keeps the type to itself
    rotate = _change(actions, "rotate", "change the keys of root, targets, pub-NAME or online roles")
    rotate.add_argument(
        "role",
        nargs="+",
        metavar="ROLE",
        help="root, targets or pub-NAME, or any of snapshot, timestamp and ro-NAME",
    )
    _option(rotate, "--in", "come", "PUBLIC", "a new key's public file; may be repeated for root and targets")
    _option(rotate, "--out", "gone", "KEY", "a key that goes: its file, or 8 digits of its id")
    rotate.add_argument("--threshold", type=int, metavar="K", help="how many have to sign from now on")
    rotate.add_argument("--uri", help="where a new online key is held, if not in the data folder")
    rotate.add_argument(
        "--without",
        nargs=2,
        action="append",
        default=[],
        metavar=("MODEL", "VERSION"),
        help="with pub-NAME: a release that the publisher did not make",
    )
    delegate = _change(actions, "delegate", "let another publisher in")
    delegate.add_argument("publisher", metavar="NAME")
    delegate.add_argument(
        "--in", dest="come", type=Path, required=True, metavar="PUBLIC", help="its public key"
    )
    delegate.add_argument(
        "--uri", help="where the server's key for its rollouts is held, if not in the folder"
    )
    delegate.add_argument(
        "--online-in", type=Path, metavar="PUBLIC", help="with --uri: that key's public file"
    )
    revoke = _change(actions, "revoke", "let a publisher sign no more; its devices keep what they have")
    revoke.add_argument("publisher", metavar="NAME")
    renew = _change(actions, "renew", "extend what is about to expire: root, targets, pub-NAME")
    renew.add_argument("role", nargs="+", metavar="ROLE")
    for action in (rotate, delegate, revoke, renew):
        action.set_defaults(handler="prepare", change=action.prog.rpartition(" ")[2])


def _configure_signing(actions: Any) -> None:  # noqa: ANN401
    show = actions.add_parser("show", help="say what a request would change, and who has to sign")
    sign = actions.add_parser("sign", help="say it, and add signatures to the file; needs no server")
    for action, handler in ((show, "show"), (sign, "sign")):
        action.add_argument("request", type=Path, metavar="REQUEST")
        action.add_argument(
            "--trusted-root", type=Path, metavar="ROOT_JSON", help="refuse unless it goes back to this root"
        )
        action.set_defaults(handler=handler)
    _key_options(sign, required=True)
    imports = actions.add_parser("import", help="publish a request that has its signatures")
    imports.add_argument("request", nargs="+", type=Path, metavar="REQUEST", help="copies are merged")
    imports.add_argument("--data", type=Path, required=True, metavar="DIR", help="the server's folder")
    add_options(imports)
    imports.set_defaults(handler="import_")
    for action in (show, sign, imports):
        action.add_argument("--json", action="store_true", help="print JSON for other programs")


def _change(actions: Any, name: str, text: str) -> argparse.ArgumentParser:  # noqa: ANN401
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the server's folder")
    parser.add_argument("-o", "--output", type=Path, metavar="REQUEST", help="write the request here")
    _key_options(parser, required=False)
    parser.add_argument("--json", action="store_true", help="print JSON for other programs")
    return parser


def _option(parser: argparse.ArgumentParser, flag: str, name: str, metavar: str, text: str) -> None:
    parser.add_argument(flag, dest=name, action="append", default=[], metavar=metavar, help=text)


def _key_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        required=required,
        metavar="KEY",
        help="signs: a private key's file, or the URI of one held elsewhere; may be repeated",
    )
    _option(parser, "--public", "public", "PUBLIC", "the public file of each --key that is a URI, in order")
    add_options(parser)
