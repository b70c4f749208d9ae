"""Bare HTTP calls to the API, answers and refusals as they come."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import urllib3

__all__ = ["Answer", "Caller", "send_raw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    def refused(self, status: int, kind: str = "", *, saying: str = "") -> dict[str, Any]:
        """Check that this is the problem document of one refusal; returns it."""
        assert self.status == status, (self.status, self.body)
        assert self.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = self.json
        assert {"type", "title", "status", "detail"} <= problem.keys()
        assert problem["status"] == status
        if kind:
            assert problem["type"] == f"urn:ferry:problem:{kind}", problem
        assert saying in problem["detail"], problem
        assert "\n" not in problem["detail"]
        assert "Traceback" not in problem["detail"]
        return problem


class Caller:
    """One bearer at one server."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._pool = urllib3.PoolManager(retries=False, timeout=30, maxsize=4)

    def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        raw: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Call `path` below `/api/v1/`, or anywhere when it begins with a slash."""
        url = f"{self.url}{path}" if path.startswith("/") else f"{self.url}/api/v1/{path}"
        data = raw if body is None else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"} if body is not None else {}
        response = self._pool.request(
            method,
            url,
            body=data,  # an iterable is sent in chunks
            headers={**self._headers, **kind, **(headers or {})},
            redirect=False,
            decode_content=False,
        )
        found = {name.lower(): value for name, value in response.headers.items()}
        return Answer(status=response.status, headers=found, body=response.data)


def send_raw(url: str, target: str) -> Answer:
    """GET a request target exactly as written: no client of ours tidies it first."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.putrequest("GET", target, skip_accept_encoding=True)
        connection.endheaders()
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(status=response.status, headers=headers, body=response.read())
    finally:
        connection.close()
