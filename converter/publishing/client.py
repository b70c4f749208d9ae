"""The publishing half of the server's API."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import urllib3
from urllib3.exceptions import HTTPError

from converter.publishing.errors import LoginError, PublishError, PublishRefusedError, ServerUnreachableError
from ota_contract import __version__
from ota_contract.credentials import Credentials
from ota_contract.documents import read_document
from ota_contract.errors import FormatError
from ota_contract.manifest import File

__all__ = ["PublishingClient", "UploadState"]

_TIMEOUT_S = 60.0
_CHUNK_BYTES = 4 * 1024 * 1024
_MAX_ANSWER_BYTES = 8 * 1024 * 1024
_OK = range(200, 300)
_MOVES = 16
"""Times that another client may move the same upload before this one gives up."""


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
        return self._upload_state("GET", f"/blobs/{file.sha256}?length={file.length_bytes}", None)

    def upload(self, file: File, path: Path, offset: int, progress: Callable[[int], None]) -> None:
        """Send a file from `offset` on, in chunks; an upload that another client moved goes on from there.

        Raises:
            ServerUnreachableError: The link failed; what arrived stays.
            PublishRefusedError: The server refused.
            PublishError: The file was changed, or the upload gets nowhere.
        """
        moves = 0
        with path.open("rb") as stream:
            while True:
                stream.seek(offset)
                chunk = stream.read(_CHUNK_BYTES)
                if not chunk and offset < file.length_bytes:
                    raise PublishError(f"{path} became shorter while it was uploaded; publish again")
                url = f"/blobs/{file.sha256}?length={file.length_bytes}&offset={offset}"
                try:
                    answer = self._upload_state("PATCH", url, chunk)
                except PublishRefusedError as error:
                    moves += 1
                    if error.offset is None or not 0 <= error.offset <= file.length_bytes or moves > _MOVES:
                        raise
                    offset = error.offset
                    continue
                if not answer.complete and answer.offset <= offset:
                    raise ServerUnreachableError(f"{self._server} takes bytes and keeps none of them")
                progress(answer.offset - offset)
                offset = answer.offset
                if answer.complete:
                    return

    def publish(self, manifest: bytes, metadata: bytes) -> None:
        """Hand over the signed release.

        Raises:
            PublishRefusedError: The server refused; nothing was published.
        """
        body = {"manifest": manifest.decode(), "metadata": metadata.decode()}
        self._request("POST", "/releases", json.dumps(body).encode(), "application/json")

    def _upload_state(self, method: str, path: str, body: bytes | None) -> UploadState:
        answer = self._request(method, path, body, "application/octet-stream" if body is not None else "")
        try:
            reader = read_document(answer, what="upload", format_=None, max_bytes=_MAX_ANSWER_BYTES)
            return UploadState(complete=reader.boolean("complete"), offset=reader.integer("offset"))
        except FormatError as error:
            raise ServerUnreachableError(f"{self._server} is not a Ferry server ({error})") from error

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
        except ValueError as error:  # a token that no header can carry
            raise LoginError(
                f"the token cannot be sent ({type(error).__name__}); run `ferry login`"
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
