"""The one place where this device decides what to believe.

python-tuf verifies signatures, versions, expiry and delegations. Around it, not inside it, is what its
client leaves to the application: one conditional request for an unchanged poll, an anti-rollback record
of our own that survives torn metadata files, a sane clock, and the check that policy and release are this
model's. Every failure is one of our errors, and what was trusted before stays trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Metadata, Root, TargetFile, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater

from device_sdk.durable import make_folder, write_durably
from device_sdk.errors import (
    ClockError,
    ConfigError,
    DeviceError,
    ExpiredMetadataError,
    ForeignReleaseError,
    MissingFileError,
    NetworkError,
    StoreError,
    UntrustedMetadataError,
)
from device_sdk.transport import Transport
from device_sdk.trust_record import TrustRecord, dump_record, parse_record
from ota_contract.errors import ContractError, UnknownFormatError
from ota_contract.manifest import MAX_MANIFEST_BYTES, Release, parse_release
from ota_contract.names import ModelName, release_target, rollout_target
from ota_contract.policy import Policy, ReleaseRef, parse_policy

__all__ = ["Manifest", "TrustedRepository"]

_MAX_TIMESTAMP_BYTES = 16 * 1024
_FULL_REFRESH_EVERY = timedelta(hours=24)
"""However long the timestamp stays the same, root is asked after this: a new root does not change it."""
_CLOCK_SLACK = timedelta(minutes=10)
"""How far a clock may be set back without being called wrong: time synchronisation does that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A verified manifest with its exact bytes."""

    release: Release
    data: bytes


class TrustedRepository:
    """The server's metadata as far as this device trusts it."""

    def __init__(
        self,
        folder: Path,
        *,
        trust_root: Path,
        metadata_url: str,
        targets_url: str,
        transport: Transport,
        shortcut: bool = True,
    ) -> None:
        """Read what was trusted before; fetch nothing.

        Args:
            folder: Where metadata and the record are kept.
            trust_root: The root metadata the device was delivered with.
            metadata_url: Base of metadata URLs.
            targets_url: Base of target URLs.
            transport: HTTP.
            shortcut: Take an unchanged timestamp as proof that nothing changed, for 24 hours.

        Raises:
            ConfigError: The trust root cannot be read.
            StoreError: The folder cannot be used. A damaged record is not told before `refresh`: it stops
                updates, and must not keep an app from the release it has.
        """
        self._metadata = folder / "metadata"
        self._record_path = folder / "record.json"
        make_folder(self._metadata / "root_history")  # python-tuf would make it for all users
        try:
            self._root = trust_root.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"trust_root {trust_root}: {error.strerror}; it is the root.json of `ferry keys init`"
            ) from error
        self._metadata_url = metadata_url
        self._targets_url = targets_url
        self._transport = transport
        self._shortcut = shortcut
        self._damage: StoreError | None = None
        self._record = self._read_record()
        self._updater: Updater | None = None
        self._unsettled_etag = ""
        self._fetcher = _Fetcher(transport)

    @property
    def record(self) -> TrustRecord:
        """What was trusted last."""
        return self._record

    def refresh(self, now: datetime) -> bool:
        """Bring the metadata up to date; returns whether anything may have changed.

        Raises:
            NetworkError: The link or server failed.
            UntrustedMetadataError: Verification failed, or the metadata is older than what was seen.
            ExpiredMetadataError: Nothing newer than expired metadata is to be had.
            ClockError: This device's clock is wrong.
            StoreError: The anti-rollback record is damaged, or cannot be written.
        """
        if self._damage is not None:
            raise self._damage
        self._check_clock(now)
        try:
            if self._shortcut and self._is_unchanged(now):
                return False
            self._refresh_fully(now)
        except DeviceError:
            self._updater = None
            raise
        return True

    def settle(self) -> None:
        """Say that every policy of this refresh has been read, and is in the record.

        Only from now on does an unchanged timestamp prove that nothing changed: a crash or a lost link
        between the two would else leave the device with the policies before for a day.
        """
        if self._unsettled_etag and self._record.etag != self._unsettled_etag:
            self._write_record(self._record.updated(etag=self._unsettled_etag))

    def policy(self, name: ModelName) -> Policy | None:
        """The rollout policy of a model; None where the server has none.

        Raises:
            UntrustedMetadataError: Not verified, another model's, or older than one seen before.
            UnknownFormatError: Written for a newer device: leave everything as it is.
            NetworkError: Metadata it needs could not be fetched.
        """
        custom = self._record.policies.get(str(name))
        if self._updater is not None:
            target = self._target(rollout_target(name))
            custom = None if target is None else target.custom
            if custom is None:
                if str(name) in self._record.policies:
                    raise UntrustedMetadataError(f"the rollout policy of {name} has vanished")
                return None
        return None if custom is None else self._accept_policy(name, custom)

    def manifest(self, name: ModelName, ref: ReleaseRef, now: datetime) -> Manifest:
        """Fetch and verify the manifest of a release the policy names.

        Raises:
            UntrustedMetadataError: Not signed by the publisher, or not the one the policy names.
            ForeignReleaseError: Genuine, but another model's or below the floor.
            NetworkError: It could not be fetched.
        """
        if self._updater is None:
            self._refresh_fully(now)
        path = release_target(name, ref.version)
        target = self._target(path)
        if target is None:
            raise UntrustedMetadataError(f"{name} {ref.version} is not signed by its publisher")
        digest = target.hashes.get("sha256", "")
        if digest != ref.manifest_sha256 or target.length > MAX_MANIFEST_BYTES:
            raise UntrustedMetadataError(f"{name} {ref.version} is not the release the policy names")
        folder, _, file_name = path.rpartition("/")
        url = f"{self._targets_url}/{folder}/{digest}.{file_name}"
        data = self._transport.get(url, max_bytes=target.length).body
        try:
            target.verify_length_and_hashes(data)
            release = parse_release(data)
        except tuf_errors.LengthOrHashMismatchError as error:
            raise UntrustedMetadataError(f"{url}: the bytes are not the signed ones") from error
        except ContractError as error:
            raise ForeignReleaseError(f"{name} {ref.version}: {error}") from error
        self._check_release(name, ref, release)
        return Manifest(release=release, data=data)

    def _check_release(self, name: ModelName, ref: ReleaseRef, release: Release) -> None:
        """A stolen server could still point at a genuine release that is wrong here."""
        if release.name != name or (release.version, release.counter) != (ref.version, ref.counter):
            raise ForeignReleaseError(
                f"{name} {ref.version} turned out to be {release.name} {release.version}"
            )
        floor = self._record.floors.get(str(name), 0)
        if release.counter < floor:
            raise ForeignReleaseError(
                f"{name} {release.version} (counter {release.counter}) is below the floor {floor}"
            )
        if release.floor > floor:
            floors = {**self._record.floors, str(name): release.floor}
            self._write_record(self._record.updated(floors=floors))

    def _accept_policy(self, name: ModelName, custom: Mapping[str, Any]) -> Policy:
        try:
            policy = parse_policy(custom)
        except UnknownFormatError:
            raise
        except ContractError as error:
            raise UntrustedMetadataError(f"{name}: {error}") from error
        if policy.name != name:
            raise UntrustedMetadataError(f"the rollout policy of {name} is one of {policy.name}")
        seen = self._record.revisions.get(str(name), 0)
        if policy.revision < seen:
            raise UntrustedMetadataError(
                f"the rollout policy of {name} is revision {policy.revision}; {seen} was seen before"
            )
        if self._record.policies.get(str(name)) != custom:
            self._write_record(
                self._record.updated(
                    policies={**self._record.policies, str(name): custom},
                    revisions={**self._record.revisions, str(name): policy.revision},
                )
            )
        return policy

    def _check_clock(self, now: datetime) -> None:
        trusted = self._record.trusted_time
        if trusted is not None and now < trusted - _CLOCK_SLACK:
            raise ClockError(
                f"the clock says {now:%Y-%m-%d %H:%M}, but {trusted:%Y-%m-%d %H:%M} was trusted before; "
                "set the clock"
            )

    def _is_unchanged(self, now: datetime) -> bool:
        """One conditional request: 304 says that no metadata changed."""
        record = self._record
        if not record.etag or record.refreshed is None or now - record.refreshed >= _FULL_REFRESH_EVERY:
            return False
        expires = self._cached_expiry()
        if expires is None or now >= expires:
            return False
        url = f"{self._metadata_url}/timestamp.json"
        answer = self._transport.get(url, max_bytes=_MAX_TIMESTAMP_BYTES, etag=record.etag)
        if answer.status == 304:  # noqa: PLR2004
            return True
        # The full refresh asks for the same file: hand it this answer.
        self._fetcher.prepared[url] = (answer.body, answer.etag)
        return False

    def _refresh_fully(self, now: datetime) -> None:
        url = f"{self._metadata_url}/timestamp.json"
        try:
            updater = Updater(
                str(self._metadata), self._metadata_url, fetcher=self._fetcher, bootstrap=self._root
            )
            updater.refresh()
        except Exception as error:
            raise _translated(error) from error
        finally:
            etag = self._fetcher.etags.pop(url, "")
            self._fetcher.prepared.clear()
        versions = self._cached_versions()
        for role, version in versions.items():
            # python-tuf compares with its own files, which a power cut may have emptied.
            if version < self._record.versions.get(role, 0):
                raise UntrustedMetadataError(
                    f"{role} is version {version}; {self._record.versions[role]} was trusted before"
                )
        expires = self._cached_expiry()
        if expires is None or now >= expires:  # python-tuf looked at the system's clock, not at ours
            raise ExpiredMetadataError(f"the server must sign anew: the metadata expired at {expires}")
        self._unsettled_etag = etag
        self._write_record(
            self._record.updated(
                etag="",
                refreshed=now,
                versions=versions,
                trusted_time=max(now, self._record.trusted_time or now),
            )
        )
        self._updater = updater  # only now: whoever asks it for a target trusts all of the above

    def _target(self, path: str) -> TargetFile | None:
        if self._updater is None:
            return None
        try:
            return self._updater.get_targetinfo(path)
        except Exception as error:
            raise _translated(error) from error

    def _cached_expiry(self) -> datetime | None:
        """The least expiry of the top-level metadata on disk, which python-tuf verified."""
        try:
            return min(
                Metadata.from_file(str(self._metadata / f"{role}.json")).signed.expires
                for role in ("root", "timestamp", "snapshot", "targets")
            )
        except Exception:  # noqa: BLE001 - torn files of any kind: a full refresh mends them
            return None

    def _cached_versions(self) -> dict[str, int]:
        """Versions of what has just been verified and written."""
        try:
            root = Metadata[Root].from_file(str(self._metadata / "root.json")).signed
            timestamp = Metadata[Timestamp].from_file(str(self._metadata / "timestamp.json")).signed
            targets = Metadata[Targets].from_file(str(self._metadata / "targets.json")).signed
        except Exception as error:
            raise StoreError(f"metadata in {self._metadata} cannot be read back: {error}") from error
        return {
            # A lost root.json would let the keys in that a newer root took out.
            "root": root.version,
            "timestamp": timestamp.version,
            "snapshot": timestamp.snapshot_meta.version,
            "targets": targets.version,
        }

    def _read_record(self) -> TrustRecord:
        try:
            return parse_record(self._record_path.read_bytes())
        except FileNotFoundError:
            return TrustRecord()
        except (OSError, ContractError) as error:
            # Fail closed: without the record a rollback could not be told from a first start.
            self._damage = StoreError(
                f"{self._record_path} is damaged ({error}): no updates until it is put back from a backup, "
                "or the device is provisioned anew"
            )
            return TrustRecord()

    def _write_record(self, record: TrustRecord) -> None:
        write_durably(self._record_path, dump_record(record))
        self._record = record


class _Fetcher(FetcherInterface):
    """Lets python-tuf fetch through our transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.prepared: dict[str, tuple[bytes, str]] = {}
        self.etags: dict[str, str] = {}

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            if url.endswith("/timestamp.json"):
                body, etag = self.prepared.pop(url, (None, ""))
                if body is None:
                    answer = self._transport.get(url, max_bytes=_MAX_TIMESTAMP_BYTES)
                    body, etag = answer.body, answer.etag
                self.etags[url] = etag
                yield body
            else:
                yield from self._transport.stream(url)
        except MissingFileError as error:
            # python-tuf takes 403 and 404 for `N+1.root.json` as "no newer root".
            raise tuf_errors.DownloadHTTPError(str(error), error.status) from error


def _translated(error: Exception) -> DeviceError:
    """Our error for anything python-tuf or its fetcher may raise."""
    known = error if isinstance(error, DeviceError) else error.__cause__
    if isinstance(known, DeviceError):
        return known
    for kind, translate in _TRANSLATIONS:
        if isinstance(error, kind):
            return translate(f"{type(error).__name__}: {error}")
    # ValueError, KeyError, TypeError: bytes that are no metadata at all.
    return UntrustedMetadataError(f"metadata rejected: {type(error).__name__}: {error}")


_TRANSLATIONS: tuple[tuple[type[Exception], Callable[[str], DeviceError]], ...] = (
    # The first that fits decides: expiry and excess are also among the wider classes below them.
    (
        tuf_errors.ExpiredMetadataError,
        lambda text: ExpiredMetadataError(f"the server must sign anew: {text}"),
    ),
    (
        tuf_errors.DownloadLengthMismatchError,
        lambda text: UntrustedMetadataError(f"metadata rejected: {text}"),
    ),
    (tuf_errors.RepositoryError, lambda text: UntrustedMetadataError(f"metadata rejected: {text}")),
    (tuf_errors.DownloadError, NetworkError),
    (OSError, lambda text: StoreError(f"metadata cannot be stored: {text}")),
)
