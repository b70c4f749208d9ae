"""Every error the server raises on purpose.

FerryError
└── ServerError
    ├── SetupError                   the operator's machine: folder, port, keys; a command prints it
    │   └── KeyFileError             a private or public key cannot be read, opened or used
    ├── CeremonyError                a change of keys that was refused; nothing moved
    │   ├── ForeignKeyError          the key's signature would not count
    │   ├── MissingSignaturesError   fewer signatures than the threshold
    │   └── StaleRequestError        something was published since the request was prepared
    ├── AuthenticationError          no token, or one nobody issued
    ├── ForbiddenError               a token that may not do this
    ├── NotFoundError                nothing of that name
    │   └── UnknownPublisherError    no such publisher is delegated in the repository
    ├── ConflictError                well formed, but not in the present state
    │   ├── ReleaseExistsError       the version is published with other bytes
    │   ├── CounterError             counter or floor behind the last release
    │   ├── MetadataVersionError     signed on top of metadata that is no longer current
    │   ├── DeviceExistsError        the id is enrolled
    │   ├── RolloutConflictError     another rollout of the model holds the cohort
    │   ├── IllegalTransitionError   the rollout is in no state for that
    │   ├── InUseError               a rollout stands on what was to change
    │   └── UploadOffsetError        the upload stands elsewhere; carries where
    ├── RefusedError                 understood, and never acceptable
    │   ├── UntrustedMetadataError   signature, role, expiry or content of publisher metadata
    │   ├── ReleaseRefusedError      manifest and metadata disagree, or blobs are missing
    │   ├── BlobMismatchError        uploaded bytes do not have their digest; they were dropped
    │   └── RolloutRefusedError      a rollout that could not work
    │       └── UnsupportedStrategyError
    ├── QuotaError                   the publisher's bytes are used up
    ├── BodyTooLargeError            the request is longer than its kind may be
    ├── StorageError                 the disk failed or is full
    └── RepositoryError              the metadata on disk is torn, foreign or newer than the database
"""

from __future__ import annotations

from ota_contract.errors import FerryError

__all__ = [
    "AuthenticationError",
    "BlobMismatchError",
    "BodyTooLargeError",
    "CeremonyError",
    "ConflictError",
    "CounterError",
    "DeviceExistsError",
    "ForbiddenError",
    "ForeignKeyError",
    "IllegalTransitionError",
    "InUseError",
    "KeyFileError",
    "MetadataVersionError",
    "MissingSignaturesError",
    "NotFoundError",
    "QuotaError",
    "RefusedError",
    "ReleaseExistsError",
    "ReleaseRefusedError",
    "RepositoryError",
    "RolloutConflictError",
    "RolloutRefusedError",
    "ServerError",
    "SetupError",
    "StaleRequestError",
    "StorageError",
    "UnknownPublisherError",
    "UnsupportedStrategyError",
    "UntrustedMetadataError",
    "UploadOffsetError",
]


class ServerError(FerryError):
    """Root of the server's errors; the state is as it was before the call."""


class SetupError(ServerError):
    """The machine or the command line needs the operator's hand."""


class KeyFileError(SetupError):
    """A key cannot be read, opened or used; no message holds a passphrase or a private key."""


class CeremonyError(ServerError):
    """A change of keys was refused; neither the repository nor the request has changed."""


class ForeignKeyError(CeremonyError):
    """The key belongs to none of the roles that have to sign."""


class MissingSignaturesError(CeremonyError):
    """Fewer valid signatures than a threshold asks for; more may be gathered."""


class StaleRequestError(CeremonyError):
    """The request was prepared on metadata that is no longer the published one."""


class AuthenticationError(ServerError):
    """The request names nobody."""


class ForbiddenError(ServerError):
    """The caller is known and may not do this."""


class NotFoundError(ServerError):
    """Nothing of that name exists."""


class UnknownPublisherError(NotFoundError):
    """The top-level targets delegate to no such publisher."""


class ConflictError(ServerError):
    """The request does not fit the present state; it may after a look at it."""


class ReleaseExistsError(ConflictError):
    """Releases are immutable: a version is published once."""


class CounterError(ConflictError):
    """A release's counter or floor would let devices step back."""


class MetadataVersionError(ConflictError):
    """Publisher metadata not built on the current one."""


class DeviceExistsError(ConflictError):
    """A device id is enrolled once."""


class RolloutConflictError(ConflictError):
    """One open rollout per model and cohort."""


class IllegalTransitionError(ConflictError):
    """A rollout's state does not admit the command."""


class InUseError(ConflictError):
    """Something a rollout stands on cannot be changed."""


class UploadOffsetError(ConflictError):
    """The chunk does not begin where the upload stands."""

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(message)
        self.offset = offset
        """Bytes the server holds."""


class RefusedError(ServerError):
    """Understood, and not acceptable as it is."""


class UntrustedMetadataError(RefusedError):
    """Publisher metadata failed verification."""


class ReleaseRefusedError(RefusedError):
    """A release that devices could not verify or obtain."""


class BlobMismatchError(RefusedError):
    """The bytes received do not have the digest they were announced under; the upload was dropped."""


class RolloutRefusedError(RefusedError):
    """A rollout that could not work, such as falling stages or a release below the floor."""


class UnsupportedStrategyError(RolloutRefusedError):
    """A strategy of the design that this version does not run."""


class QuotaError(ServerError):
    """The publisher's storage is used up."""


class BodyTooLargeError(ServerError):
    """A request body above its limit; it was not parsed."""


class StorageError(ServerError):
    """A disk operation failed; nothing half-written is visible."""


class RepositoryError(ServerError):
    """The repository on disk cannot be continued from."""
