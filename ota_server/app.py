"""The composition root: the only place where ports meet their implementations."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from ota_server.adapters.blobs import FolderBlobs
from ota_server.adapters.files import storage_errors
from ota_server.adapters.metadata_folder import METADATA
from ota_server.adapters.registry import open_registry
from ota_server.adapters.repository import TARGETS, TufRepository
from ota_server.api.routes import build
from ota_server.api.static import PublishedFiles
from ota_server.errors import ServerError
from ota_server.operations.ports import Clock, Services
from ota_server.operations.publishing import recover
from ota_server.operations.reconciler import tick
from ota_server.settings import Settings

__all__ = ["create_app"]

_LOG = logging.getLogger("ferry.server")
_REPEAT = timedelta(hours=1)
"""How often the same failure of the reconciler is logged."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def create_app(settings: Settings, *, clock: Clock = _utc_now) -> FastAPI:
    """The server over one data folder.

    The reconciler runs while the application serves, every `settings.tick_s`.

    Args:
        settings: The operator's choices.
        clock: The time.

    Raises:
        SetupError: The data folder is not one of `ferry keys init`.
        KeyFileError: An online key cannot be opened.
        RepositoryError: The repository is torn.
        StorageError: The disk refuses.
    """
    registry = open_registry(settings.data)
    with storage_errors(settings.data):
        (settings.data / TARGETS).mkdir(parents=True, exist_ok=True)
    repository = TufRepository(settings.data, clock, settings.secrets)
    services = Services(
        registry=registry,
        repository=repository,
        blobs=FolderBlobs(settings.data / "blobs", settings.data / "uploads"),
        clock=clock,
        poll_interval_s=settings.poll_interval_s,
        quota_bytes=settings.quota_bytes,
    )
    recovered = recover(services)
    repository.open_keys()
    for record in recovered:
        _LOG.warning("indexed %s %s, which a crash had left unindexed", record.name, record.version)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        reconciler = asyncio.create_task(_reconcile(services, settings.tick_s))
        yield
        reconciler.cancel()
        await asyncio.gather(reconciler, return_exceptions=True)
        registry.close()

    app = build(services, lifespan)
    app.mount("/metadata", PublishedFiles(settings.data / METADATA), name="metadata")
    app.mount("/targets", PublishedFiles(settings.data / TARGETS), name="targets")
    app.mount("/blobs", PublishedFiles(settings.data / "blobs"), name="blobs")
    return app


async def _reconcile(services: Services, tick_s: float) -> None:
    """Tick for ever; a failure is logged, and the next tick begins from the database again."""
    said, said_at = "", services.clock()
    while tick_s > 0:
        try:
            await run_in_threadpool(tick, services)
            said = ""
        except ServerError as error:
            # A lost key fails every turn, for days: that is one line an hour, not one in two seconds.
            now = services.clock()
            if str(error) != said or now - said_at >= _REPEAT:
                _LOG.error("the reconciler failed: %s", error)
                said, said_at = str(error), now
        except Exception:  # noqa: BLE001 - one fault must not end every rollout of every model
            _LOG.exception("the reconciler failed")
        await asyncio.sleep(tick_s)
