"""The files devices read: metadata, manifests and blobs, as any web server or CDN would serve them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

__all__ = ["PublishedFiles"]

_FOREVER = "public, max-age=31536000, immutable"
_ASK = "no-cache"
"""Keep it, and ask each time whether it still holds."""
_CHANGING = "timestamp.json"


class PublishedFiles(StaticFiles):
    """Static files with ETag, Range and caching; only the timestamp ever changes."""

    def __init__(self, folder: Path) -> None:
        """Serve a folder that may be empty yet."""
        super().__init__(directory=folder, check_dir=False)
        self._changing = folder / _CHANGING

    async def get_response(self, path: str, scope: Scope) -> Response:
        """One file."""
        if path.endswith(".new"):
            raise HTTPException(404)  # staged by a publication under way
        if path == _CHANGING and scope["method"] in ("GET", "HEAD"):
            return await run_in_threadpool(self._whole, scope)
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = _FOREVER
        return response

    def _whole(self, scope: Scope) -> Response:
        """A file that may be replaced at any moment, read once, under the digest of what was read.

        Time and length, from which ETags are made elsewhere, may be equal for two publications in a row.
        """
        try:
            data = self._changing.read_bytes()
        except OSError as error:
            raise HTTPException(404) from error
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()[:32]}"', "Cache-Control": _ASK}
        response = Response(data, headers=headers, media_type="application/json")
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response
