"""The publishing half of the server's API."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from converter.publishing.errors import PublishRefusedError, ServerUnreachableError
from ota_contract import __version__
from ota_contract.credentials import Credentials
from ota_contract.manifest import File

__all__ = ["PublishingClient", "UploadState"]

_TIMEOUT_S = 60.0
_CHUNK_BYTES = 4 * 1024 * 1024
_MAX_ANSWER_BYTES = 8 * 1024 * 1024
_OK = range(200, 300)
_CONFLICT = 409


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadState:
    """Where an upload stands on the server."""

    complete: bool
    offset: int


class PublishingClient:
    """One publisher at one server."""

    def __init__(self, credentials: Credentials, publisher: str) -> None:
        """Open no connection yet."""
        self._server = credentials.server
        self._base = f"{credentials.server}/api/v1/publishers/{publisher}"
        self._headers = {
            "Authorization": f"Bearer {credentials.token}",
            "User-Agent": f"ferry/{__version__}",
        }
        self._pool = urllib3.PoolManager(timeout=_TIMEOUT_S, retries=False)

    def metadata(self) -> bytes:
        """The publisher's current signed metadata; unverified bytes."""
        return self._request("GET", "/metadata")

    def upload_state(self, file: File) -> UploadState:
        """Whether a file has to be uploaded, and from which byte."""
        answer = self._json("GET", f"/blobs/{file.sha256}?length={file.length_bytes}")
        return UploadState(complete=bool(answer["complete"]), offset=int(answer["offset"]))

    def upload(self, file: File, path: Path, offset: int, progress: Callable[[int], None]) -> None:
        """Send a file from `offset` on, in chunks; an upload that another client moved goes on from there.

        Raises:
            ServerUnreachableError: The link failed; what arrived stays.
            PublishRefusedError: The server refused.
        """
        with path.open("rb") as stream:
            while True:
                stream.seek(offset)
                chunk = stream.read(_CHUNK_BYTES)
                url = f"/blobs/{file.sha256}?length={file.length_bytes}&offset={offset}"
                try:
                    answer = self._json("PATCH", url, chunk, "application/octet-stream")
                except PublishRefusedError as error:
                    if error.offset is None or error.offset == offset:
                        raise
                    offset = error.offset
                    continue
                progress(int(answer["offset"]) - offset)
                offset = int(answer["offset"])
                if answer["complete"]:
                    return

    def publish(self, manifest: bytes, metadata: bytes) -> None:
        """Hand over the signed release.

        Raises:
            PublishRefusedError: The server refused; nothing was published.
        """
        body = {"manifest": manifest.decode(), "metadata": metadata.decode()}
        self._json("POST", "/releases", json.dumps(body).encode(), "application/json")

    def _json(self, method: str, path: str, body: bytes | None = None, content_type: str = "") -> Any:  # noqa: ANN401
        answer = self._request(method, path, body, content_type)
        try:
            return json.loads(answer)
        except ValueError as error:
            raise ServerUnreachableError(f"{self._server} is not a Ferry server: no JSON came") from error

    def _request(self, method: str, path: str, body: bytes | None = None, content_type: str = "") -> bytes:
        headers = {**self._headers, **({"Content-Type": content_type} if content_type else {})}
        try:
            response = self._pool.request(
                method,
                f"{self._base}{path}",
                body=body,
                headers=headers,
                preload_content=False,
                redirect=False,
            )
            answer: bytes = response.read(_MAX_ANSWER_BYTES)
            response.release_conn()
        except (HTTPError, OSError) as error:
            raise ServerUnreachableError(
                f"{self._server} does not answer ({type(error).__name__}); publish again when it does, "
                "what was uploaded is kept"
            ) from error
        if response.status in _OK:
            return answer
        raise _refusal(response.status, answer)


def _refusal(status: int, answer: bytes) -> PublishRefusedError:
    try:
        problem = json.loads(answer)
        text = str(problem.get("detail") or problem.get("title") or "")
        kind, offset = str(problem.get("type", "")), problem.get("offset")
    except (ValueError, AttributeError):
        text, kind, offset = "", "", None
    return PublishRefusedError(
        text or f"the server answered HTTP {status}",
        status=status,
        kind=kind,
        offset=offset if isinstance(offset, int) else None,
    )
