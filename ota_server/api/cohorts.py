"""Cohorts."""

from __future__ import annotations

from fastapi import APIRouter

from ota_server.api.callers import Caller, Ports
from ota_server.api.schemas import (
    CohortDocument,
    CohortList,
    ConditionBody,
    PreviewDocument,
    preview_document,
)
from ota_server.operations import cohorts

__all__ = ["ROUTER"]

ROUTER = APIRouter(prefix="/cohorts", tags=["cohorts"])


@ROUTER.get("")
def list_cohorts(services: Ports, caller: Caller) -> CohortList:
    """Every cohort with its rule."""
    found = cohorts.list_cohorts(services, caller)
    return CohortList(
        cohorts=[CohortDocument(name=name, condition=dict(item.rule)) for name, item in found.items()]
    )


@ROUTER.post("/preview")
def preview(services: Ports, caller: Caller, body: ConditionBody) -> PreviewDocument:
    """Whom a rule would select."""
    return preview_document(cohorts.preview(services, caller, body.condition))


@ROUTER.put("/{name}")
def put_cohort(services: Ports, caller: Caller, name: str, body: ConditionBody) -> CohortDocument:
    """Create or change a cohort."""
    condition = cohorts.put_cohort(services, caller, name, body.condition)
    return CohortDocument(name=name, condition=dict(condition.rule))


@ROUTER.get("/{name}/preview")
def preview_named(services: Ports, caller: Caller, name: str) -> PreviewDocument:
    """Whom a cohort selects."""
    return preview_document(cohorts.preview_named(services, caller, name))
