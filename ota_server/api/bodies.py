"""Bounds on what a request may carry, enforced while it arrives and not after."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ota_server.errors import BodyTooLargeError

__all__ = ["MAX_CHUNK_BYTES", "MAX_JSON_BYTES", "BodyLimit", "read_body"]

MAX_CHUNK_BYTES = 8 * 1024 * 1024
"""Of a blob, in one request."""
MAX_JSON_BYTES = 1024 * 1024
_MAX_RELEASE_BYTES = 16 * 1024 * 1024
"""Manifest and metadata as JSON strings, which may spell a character in six."""


class BodyLimit:
    """Ends any request that sends more than its kind may, however its length is told."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what comes in."""
        limit = _limit(scope.get("path", ""))
        total = 0

        async def counted() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > limit:
                raise BodyTooLargeError(f"the request is longer than {limit} bytes")
            return message

        await self._app(scope, counted, send)


def _limit(path: str) -> int:
    if "/publishers/" in path:
        return _MAX_RELEASE_BYTES if path.endswith("/releases") else MAX_CHUNK_BYTES
    return MAX_JSON_BYTES


async def read_body(request: Request, max_bytes: int) -> bytes:
    """A request's body.

    Raises:
        BodyTooLargeError: It is longer; the rest was not read.
    """
    chunks: list[bytes] = []
    length = 0
    async for chunk in request.stream():
        length += len(chunk)
        if length > max_bytes:
            raise BodyTooLargeError(f"the request is longer than {max_bytes} bytes")
        chunks.append(chunk)
    return b"".join(chunks)
