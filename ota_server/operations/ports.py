"""The ports that operations stand on; `ota_server.adapters` implements them.

A write transaction is the server's one lock: whatever reads, decides and publishes inside it is alone,
also among several processes on one database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from ota_contract.conditions import Condition
from ota_contract.device import Attributes
from ota_contract.names import ModelName
from ota_contract.policy import Policy
from ota_contract.report import Report
from ota_server.domain.access import Principal
from ota_server.domain.release import ReleaseRecord, TargetEntry
from ota_server.domain.rollout import ArmCounts, Rollout, RolloutState
from ota_server.operations.signing_health import SigningHealth

__all__ = [
    "Blobs",
    "Claims",
    "Clock",
    "Cohorts",
    "DeviceRecord",
    "Devices",
    "Records",
    "Registry",
    "Releases",
    "ReportCounts",
    "Reports",
    "Repository",
    "Rollouts",
    "Services",
    "TokenRecord",
    "Tokens",
]

Clock = Callable[[], datetime]
"""The time as an aware UTC datetime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """An issued token; the token itself is not kept."""

    principal: Principal
    sha256: str
    created: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """An enrolled device."""

    attributes: Attributes
    """With its tags."""
    enrolled: datetime
    last_seen: datetime | None = None
    live: Mapping[ModelName, str] = field(default_factory=dict)
    """Version live per model, as it last said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportCounts:
    """What the reports of one rollout add up to; see `domain.rollout.Counts` for the words."""

    devices_exposed: int
    devices_healthy: int
    devices_failed: int
    candidate: ArmCounts
    control: ArmCounts


class Tokens(Protocol):
    """Access tokens, by the digest of their secret."""

    def find(self, sha256: str) -> Principal | None:
        """Who bears it."""

    def all(self) -> Sequence[TokenRecord]:
        """Every token, devices' excepted."""

    def add(self, record: TokenRecord) -> None:
        """Keep one; its name must be free.

        Raises:
            ConflictError: The name is taken.
        """

    def remove(self, name: str) -> bool:
        """Forget one; returns whether there was one."""


class Releases(Protocol):
    """The index of published releases."""

    def all(self, name: ModelName | None = None) -> Sequence[ReleaseRecord]:
        """Releases by descending counter."""

    def find(self, name: ModelName, version: str) -> ReleaseRecord | None:
        """One release."""

    def add(self, record: ReleaseRecord) -> None:
        """Index one."""

    def withdraw(self, name: ModelName, version: str) -> None:
        """Keep one out of new rollouts."""

    def remove(self, name: ModelName, version: str) -> None:
        """Forget one that its publisher's metadata no longer names."""


class Claims(Protocol):
    """Which publisher stores which blob, for quotas: claimed with the first byte that is uploaded."""

    def total_bytes(self, publisher: str) -> int:
        """Bytes a publisher has claimed."""

    def length_bytes(self, publisher: str, sha256: str) -> int | None:
        """The length under which the publisher has claimed a blob, or None."""

    def put(self, publisher: str, sha256: str, length_bytes: int) -> None:
        """Claim a blob, replacing an earlier claim of it."""

    def remove(self, publisher: str, sha256: str) -> None:
        """Give a claim up."""


class Cohorts(Protocol):
    """Named rules."""

    def all(self) -> Mapping[str, Condition]:
        """Every cohort but `everyone`."""

    def put(self, name: str, condition: Condition) -> None:
        """Create or change one."""


class Devices(Protocol):
    """Enrolled devices."""

    def all(self, *, after: str = "", most: int | None = None) -> Sequence[DeviceRecord]:
        """Devices by id, those behind `after`, at most so many."""

    def find(self, device_id: str) -> DeviceRecord | None:
        """One device."""

    def add(self, record: DeviceRecord) -> None:
        """Enrol one."""

    def saw(self, attributes: Attributes, live: Mapping[ModelName, str], now: datetime) -> None:
        """Keep what a device said of itself; its tags stay."""

    def tag(self, device_id: str, tags: Sequence[str]) -> None:
        """Replace a device's tags."""

    def remove(self, device_id: str) -> None:
        """Forget one with its token."""


class Rollouts(Protocol):
    """Rollouts."""

    def models(self) -> Sequence[ModelName]:
        """The models that have any, sorted."""

    def all(
        self, name: ModelName | None = None, states: Iterable[RolloutState] | None = None
    ) -> Sequence[Rollout]:
        """Rollouts, the newest first."""

    def find(self, rollout_id: str) -> Rollout | None:
        """One rollout."""

    def save(self, rollout: Rollout) -> None:
        """Insert or replace one."""


class Reports(Protocol):
    """What devices reported, one row per report however often it was sent."""

    def add(self, device_id: str, reports: Sequence[Report], now: datetime) -> int:
        """Keep those not known yet; returns how many these were."""

    def counts(self, rollout: Rollout) -> ReportCounts:
        """Add up a rollout's reports."""

    def of_device(self, device_id: str, most: int) -> Sequence[Report]:
        """A device's latest reports, the newest first."""


class Records(Protocol):
    """The database inside one transaction."""

    @property
    def tokens(self) -> Tokens:
        """Access tokens."""

    @property
    def releases(self) -> Releases:
        """Releases."""

    @property
    def claims(self) -> Claims:
        """Blob claims."""

    @property
    def cohorts(self) -> Cohorts:
        """Cohorts."""

    @property
    def devices(self) -> Devices:
        """Devices."""

    @property
    def rollouts(self) -> Rollouts:
        """Rollouts."""

    @property
    def reports(self) -> Reports:
        """Reports."""


class Registry(Protocol):
    """The database."""

    def read(self) -> AbstractContextManager[Records]:
        """A snapshot."""

    def write(self) -> AbstractContextManager[Records]:
        """The exclusive write transaction; leaving it by an exception undoes everything."""


class Repository(Protocol):
    """The TUF repository that devices read; every writing call is atomic and ends with the timestamp."""

    def publishers(self) -> Sequence[str]:
        """Publishers the targets role delegates to."""

    def expiries(self) -> Mapping[str, datetime]:
        """When the current metadata of each role expires."""

    def publisher_metadata(self, publisher: str) -> bytes:
        """A publisher's current signed metadata.

        Raises:
            UnknownPublisherError: No such delegation.
        """

    def targets(self, publisher: str) -> Mapping[str, TargetEntry]:
        """A publisher's current targets."""

    def verified_targets(self, publisher: str, metadata: bytes) -> Mapping[str, TargetEntry]:
        """The targets of untrusted metadata, once it is proven to succeed the current one.

        Raises:
            UntrustedMetadataError: Signature, role, expiry or form.
            MetadataVersionError: Not the version after the current one.
        """

    def publish_release(self, publisher: str, metadata: bytes, path: str, manifest: bytes) -> None:
        """Make verified metadata and the one manifest it adds visible to devices."""

    def manifest(self, path: str, sha256: str) -> bytes:
        """A published manifest's bytes.

        Raises:
            RepositoryError: It is missing.
        """

    def policy(self, name: ModelName) -> Policy | None:
        """A model's policy as devices see it."""

    def publish_policies(self, policies: Sequence[Policy]) -> None:
        """Replace policies; each gets the revision after its former one."""

    def keep_fresh(self) -> None:
        """Sign anew what would expire before long; what can be signed is, whatever else cannot.

        Raises:
            KeyFileError: Something could not.
        """

    def complete(self) -> None:
        """Finish a ceremony's publication that a crash cut short."""


class Blobs(Protocol):
    """Blobs by digest, and uploads that are not complete yet."""

    def length_bytes(self, sha256: str) -> int | None:
        """The length of a complete blob, or None where there is none."""

    def offset(self, publisher: str, sha256: str) -> int:
        """Bytes of a publisher's unfinished upload."""

    def append(self, publisher: str, sha256: str, offset: int, data: bytes, length_bytes: int) -> int:
        """Add to an upload, completing it with its last byte; returns the bytes held.

        Raises:
            UploadOffsetError: The upload stands elsewhere.
            BlobMismatchError: Complete, and not the digest; it was dropped.
            StorageError: The disk refused; the upload stands where it stood.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What operations are given: the ports, the operator's choices, and how signing goes."""

    registry: Registry
    repository: Repository
    blobs: Blobs
    clock: Clock
    poll_interval_s: int
    quota_bytes: int
    signing: SigningHealth = field(default_factory=SigningHealth)
