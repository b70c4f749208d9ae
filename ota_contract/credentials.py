"""The file in which a person's servers and tokens are remembered, as bytes and rules.

`ferry login` writes it; the fleet commands and `ferry publish`, which never import each other, read it:
`$FERRY_CONFIG`, or `~/.config/ferry/credentials.json`, with
`{"default": URL, "servers": {URL: {"token": …}}}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from ota_contract.documents import Reader, canonical_json, read_document
from ota_contract.errors import CredentialsError

__all__ = ["Credentials", "Remembered", "credentials_path", "dump_remembered", "parse_remembered", "settle"]

_MAX_BYTES = 1024 * 1024
_MAX_SERVERS = 1000
_MAX_TOKEN = 4096
_MAX_URL = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A server and the token to speak to it with."""

    server: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What the file holds."""

    default: str = ""
    tokens: Mapping[str, str] = field(default_factory=dict)
    """Token by server."""

    def including(self, credentials: Credentials) -> Remembered:
        """The same with one server more, which becomes the default."""
        tokens = {**self.tokens, credentials.server: credentials.token}
        return replace(self, default=credentials.server, tokens=tokens)


def credentials_path(environment: Mapping[str, str], home: PurePath) -> PurePath:
    """Where the file is."""
    named = environment.get("FERRY_CONFIG")
    return PurePath(named) if named else home / ".config" / "ferry" / "credentials.json"


def parse_remembered(data: bytes) -> Remembered:
    """Parse the file.

    Raises:
        FormatError: It is damaged.
    """
    reader = read_document(data, what="credentials", format_=None, max_bytes=_MAX_BYTES)
    return Remembered(
        default=reader.text("default", max_length=_MAX_URL, default=""),
        tokens={
            server: _token(value.object("value"))
            for server, value in reader.entries("servers", max_items=_MAX_SERVERS).items()
        },
    )


def dump_remembered(remembered: Remembered) -> bytes:
    """Serialise the file; `parse_remembered` gives it back."""
    servers = {server: {"token": token} for server, token in remembered.tokens.items()}
    return canonical_json({"default": remembered.default, "servers": servers})


def settle(
    server: str | None, token: str | None, environment: Mapping[str, str], remembered: Remembered
) -> Credentials:
    """Which server to speak to and how: options first, then the environment, then the file.

    Raises:
        CredentialsError: Something is missing; the message says how to provide it.
    """
    server = (server or environment.get("FERRY_SERVER") or remembered.default).rstrip("/")
    if not server:
        raise CredentialsError("no server given: run `ferry login URL`, or pass --server URL")
    if not server.startswith(("http://", "https://")):
        raise CredentialsError(f"server {server!r} does not begin with http:// or https://")
    token = token or environment.get("FERRY_TOKEN") or remembered.tokens.get(server)
    if not token:
        raise CredentialsError(f"no token for {server}: run `ferry login {server}`, or set FERRY_TOKEN")
    return Credentials(server=server, token=token)


def _token(reader: Reader) -> str:
    return reader.text("token", max_length=_MAX_TOKEN)
