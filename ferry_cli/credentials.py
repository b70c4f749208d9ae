"""Reads and writes the file of remembered servers; `ota_contract.credentials` owns what is in it."""

from __future__ import annotations

import os
from pathlib import Path

from ferry_cli.errors import CommandError, NotLoggedInError
from ota_contract.credentials import (
    Credentials,
    Remembered,
    dump_remembered,
    parse_remembered,
    settle,
)
from ota_contract.credentials import credentials_path as path_of
from ota_contract.errors import CredentialsError, FormatError

__all__ = ["Credentials", "credentials_path", "read_credentials", "remember"]


def credentials_path() -> Path:
    """Where credentials are kept."""
    return Path(path_of(os.environ, Path.home()))


def read_credentials(server: str | None, token: str | None) -> Credentials:
    """Settle which server to speak to and how.

    Raises:
        NotLoggedInError: Something is missing; the message says how to provide it.
        CommandError: The credentials file is not readable.
    """
    remembered = _read()
    try:
        return settle(server, token, os.environ, remembered)
    except CredentialsError as error:
        raise NotLoggedInError(str(error)) from error


def remember(credentials: Credentials) -> Path:
    """Keep credentials for later commands and make their server the default; returns the file.

    Raises:
        CommandError: The file cannot be read or written; it is unchanged.
    """
    content = dump_remembered(_read().including(credentials))
    path = credentials_path()
    staged = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        staged.unlink(missing_ok=True)
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        staged.replace(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
    return path


def _read() -> Remembered:
    path = credentials_path()
    try:
        return parse_remembered(path.read_bytes())
    except FileNotFoundError:
        return Remembered()
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from error
    except FormatError as error:
        raise CommandError(f"{path} is damaged ({error}); delete it and log in again") from error
