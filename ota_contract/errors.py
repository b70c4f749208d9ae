"""The root of every error of Ferry, and the contract's own.

FerryError                   root of every package's tree; a command prints it and exits 1
└── ContractError
    ├── FormatError              the bytes are not the document they claim to be
    │   └── UnknownFormatError   a format this code does not know: do nothing with it
    ├── InvalidNameError         a publisher, model, version or path that is not well formed
    ├── ConditionError           a cohort rule that cannot be evaluated safely
    ├── DeltaError               a delta is malformed, or not one of the file it is applied to
    ├── CredentialsError         no server or no token to speak to it with is known
    └── ProtocolError            an inference request or response outside the Open Inference Protocol
"""

from __future__ import annotations

__all__ = [
    "ConditionError",
    "ContractError",
    "CredentialsError",
    "DeltaError",
    "FerryError",
    "FormatError",
    "InvalidNameError",
    "ProtocolError",
    "UnknownFormatError",
]


class FerryError(Exception):
    """Root of all errors Ferry raises on purpose; its text is one line that says what to do."""


class ContractError(FerryError, ValueError):
    """Root of what the contract refuses; the message names the place and says what was expected."""


class FormatError(ContractError):
    """A document is malformed: wrong type, missing key, out of bounds."""


class UnknownFormatError(FormatError):
    """A document's `format` is not one this code knows; act as if it had not been received."""


class InvalidNameError(ContractError):
    """A publisher, model, version, role or path is not well formed."""


class ConditionError(ContractError):
    """A cohort rule uses an unknown operator, or could cost more than its bound to evaluate."""


class DeltaError(ContractError):
    """A delta is malformed, or not one of the file it was applied to; what it made is worth nothing."""


class CredentialsError(ContractError):
    """No server was named, or no token for it is known; nothing was sent."""


class ProtocolError(ContractError):
    """An Open Inference Protocol message is malformed or disagrees with itself."""
