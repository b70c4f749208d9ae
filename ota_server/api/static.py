"""The files devices read: metadata, manifests and blobs, as any web server or CDN would serve them."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

__all__ = ["PublishedFiles"]

_FOREVER = "public, max-age=31536000, immutable"
_ASK = "no-cache"
"""Keep it, and ask each time whether it still holds."""


class PublishedFiles(StaticFiles):
    """Static files with ETag, Range and caching; only the timestamp and the newest root ever change."""

    def __init__(self, folder: Path) -> None:
        """Serve a folder that may be empty yet."""
        super().__init__(directory=folder, check_dir=False)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """One file."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = _ASK if path.endswith("timestamp.json") else _FOREVER
        if path.endswith(".new"):
            response = Response(status_code=404)  # staged by a publication under way
        return response
