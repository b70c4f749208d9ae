"""The server: registry of releases, rollout engine, signing of policies, HTTP API.

`create_app(settings)` is its only composition root; importing the package loads no framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ota_server.errors import ServerError
from ota_server.settings import Settings

if TYPE_CHECKING:
    from ota_server.app import create_app

__all__ = ["ServerError", "Settings", "create_app"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the module protocol's own signature
    if name == "create_app":
        from ota_server.app import create_app  # noqa: PLC0415 - FastAPI loads only when asked for

        return create_app
    raise AttributeError(name)
