"""Tokens: 256 random bits, shown once, kept as their SHA-256."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from ota_contract.names import check_device_id, check_name
from ota_server.domain.access import Principal, Role
from ota_server.errors import AuthenticationError, NotFoundError, RefusedError
from ota_server.operations.ports import Clock, Records, Registry, TokenRecord

__all__ = ["authenticate", "create_token", "issue", "list_tokens", "revoke_token"]

_PREFIX = "ferry_"
"""Lets scanners of leaked secrets find them."""
_LONGEST_TOKEN = 128


def authenticate(registry: Registry, token: str) -> Principal:
    """Who bears a token.

    A digest of 256 random bits needs no salt and no slow hash, and is looked up without comparing secrets.

    Raises:
        AuthenticationError: Nobody.
    """
    if not token or len(token) > _LONGEST_TOKEN:
        raise AuthenticationError("send an access token: Authorization: Bearer …")
    with registry.read() as records:
        principal = records.tokens.find(_digest(token))
    if principal is None:
        raise AuthenticationError("this token was not issued here, or has been revoked")
    return principal


def create_token(registry: Registry, principal: Principal, clock: Clock) -> str:
    """Issue a token for a person or program; the only time it is seen.

    Raises:
        ConflictError: The name is taken.
        RefusedError: A publisher's token names no publisher.
        InvalidNameError: A name is not well formed.
    """
    check_name(principal.name, what="token name")
    if (principal.role is Role.PUBLISHER) != bool(principal.publisher):
        raise RefusedError("a publisher token names its publisher, and no other token does")
    if principal.publisher:
        check_name(principal.publisher, what="publisher")
    if principal.role is Role.DEVICE:
        raise RefusedError("a device gets its token by enrolling; create an enrolment token instead")
    with registry.write() as records:
        return issue(records, principal, clock)


def issue(records: Records, principal: Principal, clock: Clock) -> str:
    """Issue a token inside a transaction."""
    if principal.device:
        check_device_id(principal.device)
    token = _PREFIX + secrets.token_urlsafe(32)
    records.tokens.add(TokenRecord(principal=principal, sha256=_digest(token), created=clock()))
    return token


def list_tokens(registry: Registry) -> Sequence[TokenRecord]:
    """Every token but those of devices."""
    with registry.read() as records:
        return records.tokens.all()


def revoke_token(registry: Registry, name: str) -> None:
    """Make a token worthless from now on.

    Raises:
        NotFoundError: There is none of that name.
    """
    with registry.write() as records:
        if not records.tokens.remove(name):
            raise NotFoundError(f"there is no token named {name!r}; `ferry token list` shows them")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
