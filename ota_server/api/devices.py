"""Devices: what they send, and what people ask of them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from ota_contract.device import attributes_from
from ota_contract.documents import read_document
from ota_contract.report import MAX_BATCH_BYTES, parse_batch, report_to_json
from ota_server.api.bodies import MAX_JSON_BYTES, read_body
from ota_server.api.callers import Caller, Ports
from ota_server.api.schemas import (
    DeviceDocument,
    DeviceList,
    EnrolmentDocument,
    ReceiptDocument,
    TagsBody,
    device_document,
)
from ota_server.operations import devices

__all__ = ["ROUTER"]

ROUTER = APIRouter()

_JSON_BODY = {"requestBody": {"content": {"application/json": {}}, "required": True}}


@ROUTER.post("/devices", status_code=201, tags=["device side"], openapi_extra=_JSON_BODY)
async def enrol(request: Request, services: Ports, caller: Caller) -> EnrolmentDocument:
    """Register a device by an enrolment token; the body is its statement, as in docs/release-format.md."""
    body = await read_body(request, MAX_JSON_BYTES)
    attributes = attributes_from(read_document(body, what="device", format_=None, max_bytes=MAX_JSON_BYTES))
    return EnrolmentDocument(token=await run_in_threadpool(devices.enrol, services, caller, attributes))


@ROUTER.post("/reports", tags=["device side"], openapi_extra=_JSON_BODY)
async def receive(request: Request, services: Ports, caller: Caller) -> ReceiptDocument:
    """Take a batch of reports (`ferry.reports/1`); one sent twice counts once."""
    batch = parse_batch(await read_body(request, MAX_BATCH_BYTES))
    accepted, tags = await run_in_threadpool(devices.receive, services, caller, batch)
    return ReceiptDocument(accepted=accepted, tags=list(tags))


@ROUTER.get("/devices", tags=["devices"])
def list_devices(
    services: Ports,
    caller: Caller,
    cohort: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str, Query(max_length=128)] = "",
) -> DeviceList:
    """Devices by id, a page at a time."""
    # One more than asked for tells whether there is a next page.
    found = devices.list_devices(services, caller, cohort=cohort, limit=limit + 1, after=after)
    page = list(map(device_document, found[:limit]))
    return DeviceList(devices=page, next=page[-1].id if len(found) > limit else None)


@ROUTER.get("/devices/{device_id}", tags=["devices"])
def show_device(services: Ports, caller: Caller, device_id: str) -> DeviceDocument:
    """One device with its latest reports."""
    record = devices.show_device(services, caller, device_id)
    history: list[dict[str, Any]] = list(map(report_to_json, devices.history(services, caller, device_id)))
    return device_document(record, history)


@ROUTER.put("/devices/{device_id}/tags", tags=["devices"])
def tag(services: Ports, caller: Caller, device_id: str, body: TagsBody) -> DeviceDocument:
    """Replace a device's tags."""
    return device_document(devices.tag(services, caller, device_id, body.tags))


@ROUTER.delete("/devices/{device_id}", status_code=204, tags=["devices"])
def forget(services: Ports, caller: Caller, device_id: str) -> None:
    """Remove a device and its token."""
    devices.forget(services, caller, device_id)
