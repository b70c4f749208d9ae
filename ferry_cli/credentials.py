"""Remembers servers and tokens for the person at this keyboard.

`$FERRY_CONFIG`, or `~/.config/ferry/credentials.json`, readable by its owner alone:
`{"default": URL, "servers": {URL: {"token": …}}}`. `ferry publish` reads the same file.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferry_cli.errors import CommandError, NotLoggedInError

__all__ = ["Credentials", "credentials_path", "read_credentials", "remember"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A server and the token to speak to it with."""

    server: str
    token: str


def credentials_path() -> Path:
    """Where credentials are kept."""
    named = os.environ.get("FERRY_CONFIG")
    return Path(named) if named else Path.home() / ".config" / "ferry" / "credentials.json"


def read_credentials(server: str | None, token: str | None) -> Credentials:
    """Settle which server to speak to and how: options first, then the environment, then the file.

    Raises:
        NotLoggedInError: Something is missing; the message says how to provide it.
        CommandError: The credentials file is not readable.
    """
    remembered = _read()
    server = server or os.environ.get("FERRY_SERVER") or remembered.get("default")
    if not server:
        raise NotLoggedInError("no server given: run `ferry login URL`, or pass --server URL")
    server = server.rstrip("/")
    token = token or os.environ.get("FERRY_TOKEN")
    token = token or remembered.get("servers", {}).get(server, {}).get("token")
    if not token:
        raise NotLoggedInError(f"no token for {server}: run `ferry login {server}`, or set FERRY_TOKEN")
    return Credentials(server=server, token=token)


def remember(credentials: Credentials) -> Path:
    """Keep credentials for later commands and make their server the default; returns the file."""
    content = _read()
    content["default"] = credentials.server
    content.setdefault("servers", {})[credentials.server] = {"token": credentials.token}
    path = credentials_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staged = path.with_name(f"{path.name}.new")
    staged.unlink(missing_ok=True)
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(content, stream, indent=2)
    staged.replace(path)
    return path


def _read() -> dict[str, Any]:
    path = credentials_path()
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} is not readable: {error}; delete it and log in again") from error
    if not isinstance(content, dict):
        raise CommandError(f"{path} is not a credentials file; delete it and log in again")
    return content
