"""What `ferry publish` speaks with."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from ota_server.api.bodies import MAX_CHUNK_BYTES, read_body
from ota_server.api.callers import Caller, Ports
from ota_server.api.schemas import (
    PublishBody,
    ReleaseDocument,
    UploadDocument,
    release_document,
)
from ota_server.operations import publishing

__all__ = ["ROUTER"]

ROUTER = APIRouter(prefix="/publishers/{publisher}", tags=["publishing"])

Length = Annotated[int, Query(ge=0, le=2**40, description="Bytes of the whole blob.")]
Offset = Annotated[int, Query(ge=0, le=2**40, description="Where this chunk begins.")]


@ROUTER.get("/metadata", response_class=Response, responses={200: {"content": {"application/json": {}}}})
def current_metadata(services: Ports, caller: Caller, publisher: str) -> Response:
    """The publisher's signed TUF metadata, to build the next release on."""
    data = publishing.publisher_metadata(services, caller, publisher)
    return Response(data, media_type="application/json")


@ROUTER.get("/blobs/{sha256}")
def upload_state(
    services: Ports, caller: Caller, publisher: str, sha256: str, length: Length
) -> UploadDocument:
    """Whether a blob is here, and from which byte an upload has to go on."""
    upload = publishing.upload_state(services, caller, publisher, sha256, length)
    return UploadDocument(complete=upload.complete, offset=upload.offset)


@ROUTER.patch(
    "/blobs/{sha256}",
    openapi_extra={"requestBody": {"content": {"application/octet-stream": {}}, "required": True}},
)
async def append_blob(
    request: Request,
    services: Ports,
    caller: Caller,
    publisher: str,
    sha256: str,
    length: Length,
    offset: Offset,
) -> UploadDocument:
    """Add one chunk of at most 8 MiB; the last one completes the blob."""
    data = await read_body(request, MAX_CHUNK_BYTES)
    upload = await run_in_threadpool(
        publishing.append_blob,
        services,
        caller,
        publisher,
        sha256,
        offset=offset,
        length_bytes=length,
        data=data,
    )
    return UploadDocument(complete=upload.complete, offset=upload.offset)


@ROUTER.post("/releases", status_code=201)
def publish(services: Ports, caller: Caller, publisher: str, body: PublishBody) -> ReleaseDocument:
    """Publish a release whose blobs are here; devices see it from now on."""
    record = publishing.publish(
        services,
        caller,
        publisher,
        manifest=body.manifest.encode(),
        metadata=body.metadata.encode(),
    )
    return release_document(record)
