"""Errors of the command line's own part.

CommandError
├── NotLoggedInError   no server or no token is known
├── UnreachableError   the server does not answer
└── RefusedError       the server refused, with its own reason
"""

from __future__ import annotations

from ota_contract.errors import FerryError

__all__ = ["CommandError", "NotLoggedInError", "RefusedError", "UnreachableError"]


class CommandError(FerryError):
    """Root of what a fleet command can raise."""


class NotLoggedInError(CommandError):
    """No server or token was given or remembered; nothing was sent."""


class UnreachableError(CommandError):
    """The server did not answer, or its answer was cut off."""


class RefusedError(CommandError):
    """The server understood and refused; the message is its reason."""
