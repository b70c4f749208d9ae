"""Models and their releases."""

from __future__ import annotations

import json

from fastapi import APIRouter

from ota_contract.names import ModelName
from ota_server.api.callers import Caller, Ports
from ota_server.api.schemas import (
    ModelDocument,
    ModelList,
    ReleaseDetail,
    ReleaseDocument,
    ReleaseList,
    WhoAmI,
    release_document,
)
from ota_server.operations import releases

__all__ = ["ROUTER"]

ROUTER = APIRouter(tags=["releases"])


@ROUTER.get("/whoami", tags=["access"])
def whoami(caller: Caller) -> WhoAmI:
    """Whom the token stands for."""
    return WhoAmI(name=caller.name, role=caller.role.value, publisher=caller.publisher)


@ROUTER.get("/models")
def list_models(services: Ports, caller: Caller) -> ModelList:
    """Every model with its newest release."""
    models = [
        ModelDocument(model=str(item.name), latest=item.latest, releases=item.releases)
        for item in releases.list_models(services, caller)
    ]
    return ModelList(models=models)


@ROUTER.get("/models/{publisher}/{model}/releases")
def list_releases(services: Ports, caller: Caller, publisher: str, model: str) -> ReleaseList:
    """A model's releases, the newest first."""
    found = releases.list_releases(services, caller, ModelName(publisher, model))
    return ReleaseList(releases=list(map(release_document, found)))


@ROUTER.get("/models/{publisher}/{model}/releases/{version}")
def show_release(services: Ports, caller: Caller, publisher: str, model: str, version: str) -> ReleaseDetail:
    """One release with its manifest."""
    record = releases.find_release(services, caller, ModelName(publisher, model), version)
    manifest = json.loads(releases.manifest_of(services, record))
    return ReleaseDetail(**release_document(record).model_dump(), manifest=manifest)


@ROUTER.post("/models/{publisher}/{model}/releases/{version}/withdraw")
def withdraw(services: Ports, caller: Caller, publisher: str, model: str, version: str) -> ReleaseDocument:
    """Keep a release out of new rollouts."""
    record = releases.withdraw(services, caller, ModelName(publisher, model), version)
    return release_document(record)
