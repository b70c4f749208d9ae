"""Speaks JSON over HTTP with the server's API, for the fleet commands."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import urllib3

from ferry_cli.credentials import Credentials, read_credentials
from ferry_cli.errors import CommandError, RefusedError, UnreachableError
from ota_contract import __version__

__all__ = ["Client", "add_server_options", "connect"]

_TIMEOUT_S = 30.0
_MAX_ANSWER_BYTES = 32 * 1024 * 1024
_OK = range(200, 300)


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Add --server, --token and --json."""
    parser.add_argument("--server", metavar="URL", help="the server (default: the one logged in to)")
    parser.add_argument("--token", help="the access token (better: ferry login, or FERRY_TOKEN)")
    parser.add_argument("--json", action="store_true", help="print JSON for other programs")


def connect(arguments: argparse.Namespace) -> Client:
    """A client for the server that options, environment or `ferry login` name.

    Raises:
        NotLoggedInError: None of them does.
    """
    return Client(read_credentials(arguments.server, arguments.token))


class Client:
    """One server, one token."""

    def __init__(self, credentials: Credentials) -> None:
        """Open no connection yet.

        Raises:
            CommandError: The server's address is no URL.
        """
        if not credentials.server.startswith(("http://", "https://")):
            raise CommandError(f"{credentials.server!r} is no URL: begin it with https:// or http://")
        self._server = credentials.server
        self._headers = {
            "Authorization": f"Bearer {credentials.token}",
            "Content-Type": "application/json",
            "User-Agent": f"ferry/{__version__}",
        }
        self._pool = urllib3.PoolManager(timeout=_TIMEOUT_S, retries=False)

    def get(self, *path: str, **query: str | int | None) -> Any:  # noqa: ANN401 - decoded JSON
        """GET `/api/v1/PATH…?QUERY`; None values are left out."""
        return self._request("GET", path, query, None)

    def post(self, *path: str, body: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401
        """POST JSON."""
        return self._request("POST", path, {}, body or {})

    def put(self, *path: str, body: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """PUT JSON."""
        return self._request("PUT", path, {}, body)

    def delete(self, *path: str) -> Any:  # noqa: ANN401
        """DELETE."""
        return self._request("DELETE", path, {}, None)

    def _request(
        self,
        method: str,
        path: tuple[str, ...],
        query: Mapping[str, str | int | None],
        body: Mapping[str, Any] | None,
    ) -> Any:  # noqa: ANN401
        # A model's slash separates path segments; nothing else a person types may.
        url = f"{self._server}/api/v1/" + "/".join(quote(part, safe="/") for part in path)
        wanted = {key: value for key, value in query.items() if value is not None}
        if wanted:
            url = f"{url}?{urlencode(wanted)}"
        data = None if body is None else json.dumps(body).encode()
        try:
            response = self._pool.request(
                method, url, body=data, headers=self._headers, preload_content=False, redirect=False
            )
            answer = response.read(_MAX_ANSWER_BYTES, decode_content=True)
            response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            cause = _cause(error)
            raise UnreachableError(f"{self._server} does not answer ({cause}); is it running?") from error
        return self._read(response.status, answer)

    def _read(self, status: int, answer: bytes) -> Any:  # noqa: ANN401
        try:
            content = json.loads(answer) if answer else None
        except ValueError as error:
            raise CommandError(f"{self._server} is not a Ferry server: it did not answer JSON") from error
        if status in _OK:
            return content
        problem = content if isinstance(content, dict) else {}
        raise RefusedError(str(problem.get("detail") or problem.get("title") or f"HTTP {status}"))


def _cause(error: Exception) -> str:
    """What the operating system says, without the objects the HTTP library names."""
    reason = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return str(getattr(reason, "strerror", None) or type(error).__name__)
