"""Who is calling, and what the routes work with."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ota_server.domain.access import Principal
from ota_server.errors import AuthenticationError
from ota_server.operations.access import authenticate
from ota_server.operations.ports import Services

__all__ = ["Caller", "Ports"]

_BEARER = HTTPBearer(auto_error=False, description="A token of `ferry token create`, or a device's own.")


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Ports = Annotated[Services, Depends(_services)]


def _caller(
    services: Ports, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
) -> Principal:
    if credentials is None:
        raise AuthenticationError("send an access token: Authorization: Bearer …")
    return authenticate(services.registry, credentials.credentials)


Caller = Annotated[Principal, Depends(_caller)]
