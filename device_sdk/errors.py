"""Errors of the device.

DeviceError
├── ConfigError                 device.toml cannot be used
├── StoreError                  the device's own folder cannot be read or written
│   ├── DiskFullError           there is no room; the running release is untouched
│   └── StoreLockedError        another agent holds the store
├── NetworkError                the link or server failed; try again later
│   └── MissingFileError        the server has no such file (403, 404)
├── EnrolmentError              the server refused this device
├── InterruptedUpdateError      the agent ends in the middle of an update; it goes on next time
├── UpdateError                 what was offered is not installed; the running release is untouched
│   ├── UntrustedMetadataError  metadata failed verification, or is older than what was seen
│   ├── ExpiredMetadataError    metadata is genuine and too old to install by
│   ├── ClockError              this device's clock lies before a time it has already trusted
│   ├── DigestMismatchError     a file's bytes are not the signed ones
│   ├── ForeignReleaseError     genuine, but not for this model, or below the floor
│   └── SelfTestError           the release does not pass its golden vectors here
└── PredictionError
    ├── NoAnswerError           every link of the fallback chain failed; says why, link by link
    └── CloudError              the cloud endpoint did not answer, or not properly
"""

from __future__ import annotations

from ota_contract.errors import FerryError

__all__ = [
    "ClockError",
    "CloudError",
    "ConfigError",
    "DeviceError",
    "DigestMismatchError",
    "DiskFullError",
    "EnrolmentError",
    "ExpiredMetadataError",
    "ForeignReleaseError",
    "InterruptedUpdateError",
    "MissingFileError",
    "NetworkError",
    "NoAnswerError",
    "PredictionError",
    "SelfTestError",
    "StoreError",
    "StoreLockedError",
    "UntrustedMetadataError",
    "UpdateError",
]


class DeviceError(FerryError):
    """Root of what the device SDK can raise."""


class ConfigError(DeviceError):
    """The configuration is missing, malformed or contradicts itself; nothing was started."""


class StoreError(DeviceError):
    """The store cannot be read or written; what it holds is unchanged."""


class DiskFullError(StoreError):
    """There is no room for what was to be written; the running release is untouched."""


class StoreLockedError(StoreError):
    """Another process runs the agent of this store."""


class NetworkError(DeviceError):
    """The link failed; nothing was trusted, and the same request may succeed later."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        """Keep how long the server asked to be left alone, in seconds."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class MissingFileError(NetworkError):
    """The server answered that it has no such file, or gives it to nobody."""

    def __init__(self, message: str, *, status: int) -> None:
        """Keep the HTTP status, 403 or 404."""
        super().__init__(message)
        self.status = status


class EnrolmentError(DeviceError):
    """The server refused to enrol this device, or no longer knows its token."""


class InterruptedUpdateError(DeviceError):
    """An update was broken off where it stood, by nobody's fault; it goes on at the next poll."""


class UpdateError(DeviceError):
    """An update was not made; the running release is untouched."""


class UntrustedMetadataError(UpdateError):
    """Metadata failed verification; the running release and what was trusted before are untouched."""


class ExpiredMetadataError(UpdateError):
    """The newest metadata to be had has expired: installed releases run on, nothing is installed."""


class ClockError(UpdateError):
    """The clock lies before a moment this device has already trusted; set it, then updates go on."""


class DigestMismatchError(UpdateError):
    """Downloaded bytes are not the signed ones; they were deleted."""


class ForeignReleaseError(UpdateError):
    """A genuine release that this device must not run: another model's, or one below the floor."""


class SelfTestError(UpdateError):
    """The release crashed, hung or answered wrongly in the self-test; it did not go live."""


class PredictionError(DeviceError):
    """Root of what answering a prediction can raise."""


class NoAnswerError(PredictionError):
    """Nothing in the fallback chain could answer; `reasons` holds why, link by link."""

    def __init__(self, message: str, *, reasons: dict[str, str]) -> None:
        """Keep the reason of each link by its name."""
        super().__init__(message)
        self.reasons = reasons


class CloudError(PredictionError):
    """The cloud endpoint is unreachable, refused, or answered outside the protocol."""
