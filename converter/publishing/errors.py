"""Errors of publishing. The server is as it was, except for uploads that go on next time.

PublishError
├── KeyFileError            the publisher's key cannot be read or used
├── LoginError              no server or token to publish with
├── ServerUnreachableError  the server does not answer; what was uploaded stays there
├── PublishRefusedError     the server refused, with its own reason
├── ReleaseExistsError      the version is published, with other bytes
└── ForeignMetadataError    what the server wants signed is not what this publisher signed last
"""

from __future__ import annotations

from ota_contract.errors import FerryError

__all__ = [
    "ForeignMetadataError",
    "KeyFileError",
    "LoginError",
    "PublishError",
    "PublishRefusedError",
    "ReleaseExistsError",
    "ServerUnreachableError",
]


class PublishError(FerryError):
    """Root of what publishing can raise; no release appeared."""


class KeyFileError(PublishError):
    """The key file is missing, malformed, or no private key."""


class LoginError(PublishError):
    """No server or token was given or remembered; nothing was sent."""


class ServerUnreachableError(PublishError):
    """The server did not answer in time; publishing again goes on where this ended."""


class PublishRefusedError(PublishError):
    """The server understood and refused; the message is its reason."""

    def __init__(self, message: str, *, status: int, kind: str = "", offset: int | None = None) -> None:
        """Keep the HTTP status, the problem's type, and where an upload stands."""
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.offset = offset


class ReleaseExistsError(PublishError):
    """The version is published with other bytes; releases are immutable, and nothing was sent."""


class ForeignMetadataError(PublishError):
    """The metadata to build on is not signed with this key; signing more of it could sign away a release."""
