"""Who may do what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ota_server.errors import ForbiddenError

__all__ = ["Principal", "Role"]


class Role(Enum):
    """What a token lets its bearer do."""

    PUBLISHER = "publisher"
    """Publish as one publisher."""
    FLEET_MANAGER = "fleet_manager"
    VIEWER = "viewer"
    DEVICE = "device"
    """Report as one device."""
    ENROLMENT = "enrolment"
    """Enrol devices, nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The caller behind a token."""

    name: str
    role: Role
    publisher: str = ""
    device: str = ""

    def require(self, *roles: Role) -> None:
        """Let only these roles pass.

        Raises:
            ForbiddenError: The caller has another.
        """
        if self.role not in roles:
            allowed = " or ".join(role.value for role in roles)
            raise ForbiddenError(f"this takes a {allowed} token; {self.name!r} is a {self.role.value} token")

    def require_publisher(self, publisher: str) -> None:
        """Let only this publisher's tokens pass.

        Raises:
            ForbiddenError: The caller is no publisher, or another.
        """
        self.require(Role.PUBLISHER)
        if self.publisher != publisher:
            raise ForbiddenError(f"{self.name!r} publishes as {self.publisher}, not as {publisher}")
