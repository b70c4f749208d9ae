"""Where a passphrase comes from: a file, the environment, or the keyboard; never the command line itself."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path

from ota_server.errors import KeyFileError
from ota_server.settings import Secrets, no_secrets

__all__ = ["VARIABLE", "add_options", "given_passphrase", "new_passphrase", "secrets_of"]

VARIABLE = "FERRY_KEY_PASSPHRASE"


def add_options(parser: argparse.ArgumentParser, *, new: bool = False) -> None:
    """Declare `--passphrase-file`, and `--encrypt` where keys are made."""
    parser.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help=f"holds the passphrase of encrypted keys (else {VARIABLE}, else it is asked for)",
    )
    if new:
        parser.add_argument(
            "--encrypt", action="store_true", help="ask for a passphrase and encrypt the new keys with it"
        )


def given_passphrase(arguments: argparse.Namespace) -> str | None:
    """The passphrase of file or environment.

    Raises:
        KeyFileError: The file is not readable, or empty.
    """
    path: Path | None = arguments.passphrase_file
    if path is None:
        return os.environ.get(VARIABLE) or None
    try:
        line = path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"passphrase file {path}: {getattr(error, 'strerror', None) or error}") from error
    if not line:
        raise KeyFileError(f"passphrase file {path}: its first line is empty")
    return line


def secrets_of(arguments: argparse.Namespace, *, once: bool = False) -> Secrets:
    """Answers what encrypted keys ask for.

    Args:
        arguments: With the options of `add_options`.
        once: One passphrase opens everything: whoever serves cannot be asked again next week.
    """
    known = given_passphrase(arguments)

    def ask(what: str) -> str:
        nonlocal known
        if known is not None:
            return known
        if not sys.stdin.isatty():
            return no_secrets(what)
        answer = getpass.getpass(f"passphrase of {what}: ")
        known = answer if once else None
        return answer

    return ask


def new_passphrase(arguments: argparse.Namespace) -> str | None:
    """What new keys are encrypted with; None writes them plain.

    Raises:
        KeyFileError: It was asked for, and mistyped or not to be had.
    """
    known = given_passphrase(arguments)
    if known is not None or not arguments.encrypt:
        return known
    if not sys.stdin.isatty():
        raise KeyFileError(f"--encrypt asks at a terminal; elsewhere give --passphrase-file or {VARIABLE}")
    first = getpass.getpass("new passphrase: ")
    if getpass.getpass("once more: ") != first:
        raise KeyFileError("the two passphrases differ; nothing was written")
    return first
