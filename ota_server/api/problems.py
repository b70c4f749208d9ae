"""Errors as RFC 9457 problem documents: the one place where an error class meets an HTTP status."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ota_contract.errors import ContractError, FerryError
from ota_server import errors
from ota_server.api.schemas import Problem

__all__ = ["PROBLEM_TYPE", "RESPONSES", "install"]

PROBLEM_TYPE = "application/problem+json"
_LOG = logging.getLogger("ferry.server")
_UPPER = re.compile(r"(?<!^)(?=[A-Z])")

_STATUS: Mapping[type[FerryError], int] = {
    errors.AuthenticationError: 401,
    errors.ForbiddenError: 403,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.BodyTooLargeError: 413,
    errors.RefusedError: 422,
    ContractError: 422,
    errors.QuotaError: 507,
    errors.StorageError: 507,
    errors.ServerError: 500,
}

RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": HTTPStatus(status).phrase}
    for status in (401, 403, 404, 409, 413, 422, 507)
}
"""What every route may answer besides success, for the OpenAPI document."""


def install(app: FastAPI) -> None:
    """Answer every error with a problem document."""
    app.add_exception_handler(FerryError, _ferry_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        for path in document["paths"].values():
            for operation in path.values():
                _relabel(operation["responses"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _relabel(responses: dict[str, Any]) -> None:
    """Give problem documents their media type, which FastAPI does not let one say beside a model."""
    for status, response in responses.items():
        content = response.get("content", {})
        if not status.startswith("2") and "application/json" in content:
            content[PROBLEM_TYPE] = content.pop("application/json")


def _problem(
    status: int,
    detail: str,
    *,
    kind: str = "about:blank",
    headers: Mapping[str, str] | None = None,
    **more: object,
) -> JSONResponse:
    # The detail may quote a key of the request, and JSON can say half a surrogate pair where UTF-8 cannot.
    detail = detail.encode(errors="backslashreplace").decode()
    content = {"type": kind, "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return JSONResponse(content, status_code=status, media_type=PROBLEM_TYPE, headers=headers)


async def _ferry_error(_: Request, error: Exception) -> JSONResponse:
    status = next(status for kind, status in _ORDERED if isinstance(error, kind))
    name = type(error).__name__.removesuffix("Error")
    more = {"offset": error.offset} if isinstance(error, errors.UploadOffsetError) else {}
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, errors.AuthenticationError) else None
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _LOG.error("%s", error)
    kind = f"urn:ferry:problem:{_UPPER.sub('-', name).lower()}"
    return _problem(status, " ".join(str(error).split()), kind=kind, headers=headers, **more)


async def _validation_error(_: Request, error: Exception) -> JSONResponse:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    detail = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in found[:5])
    return _problem(422, detail or "the request is malformed")


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error.__cause__, FerryError):  # raised while FastAPI was reading the body
        return await _ferry_error(request, error.__cause__)
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    detail = error.detail if isinstance(error, HTTPException) else ""
    return _problem(status, str(detail), headers=headers)


async def _unexpected(_: Request, error: Exception) -> JSONResponse:
    _LOG.error("unexpected", exc_info=error)
    return _problem(500, "the server failed; its log says why")


_ORDERED = tuple(_STATUS.items())
