"""Every route of the API, and what the OpenAPI document says of it as a whole."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from fastapi import APIRouter, FastAPI

from ota_contract import __version__
from ota_server.api import cohorts, devices, metrics, problems, publishing, releases, rollouts
from ota_server.api.bodies import BodyLimit
from ota_server.operations.ports import Services

__all__ = ["Lifespan", "build"]

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
"""What runs while the application serves."""

_DESCRIPTION = """\
Publishing, devices, cohorts and rollouts. What devices poll is not here: `/metadata`, `/targets` and
`/blobs` are static files (TUF metadata, release manifests, blobs by digest).
"""


def build(services: Services, lifespan: Lifespan | None = None) -> FastAPI:
    """The application around a set of services."""
    app = FastAPI(
        title="Ferry",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    app.state.services = services
    app.add_middleware(BodyLimit)
    problems.install(app)
    api = APIRouter(prefix="/api/v1", responses=problems.RESPONSES)
    for module in (publishing, releases, devices, cohorts, rollouts):
        api.include_router(module.ROUTER)
    app.include_router(api)

    metrics.install(app, services)

    @app.get("/healthz", tags=["operations"])
    def healthy() -> dict[str, str]:
        """Whether the process serves."""
        return {"status": "ok"}

    return app
