"""The one place where this device decides what to believe.

`tuf_client` verifies metadata, `trust_rules` says what follows from it, and this module holds the two
together with the durable record: one conditional request for an unchanged poll, and no step that is not
remembered before it is acted upon. Every failure is one of our errors, and what was trusted before stays
trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from device_sdk.durable import make_folder, read_bounded, write_durably
from device_sdk.errors import (
    ConfigError,
    DeviceError,
    ForeignReleaseError,
    StoreError,
    UntrustedMetadataError,
)
from device_sdk.transport import Transport
from device_sdk.trust_record import MAX_RECORD_BYTES, TrustRecord, dump_record, parse_record
from device_sdk.trust_rules import (
    accept_metadata,
    accept_policy,
    accept_release,
    check_clock,
    forget_rotated,
    is_due,
)
from device_sdk.tuf_client import TufClient
from ota_contract.errors import ContractError
from ota_contract.manifest import MAX_MANIFEST_BYTES, Release, parse_release
from ota_contract.names import ModelName, publisher_role, release_target, rollout_role, rollout_target
from ota_contract.policy import Policy, ReleaseRef

__all__ = ["Manifest", "TrustedRepository"]


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
        metadata: Path | None = None,
        shortcut: bool = True,
    ) -> None:
        """Read what was trusted before; fetch nothing.

        Args:
            folder: Where the record is kept.
            trust_root: The root metadata the device was delivered with.
            metadata_url: Base of metadata URLs.
            targets_url: Base of target URLs.
            transport: HTTP.
            metadata: Where trusted metadata is kept; by default below `folder`.
            shortcut: Take an unchanged timestamp as proof that nothing changed, for 24 hours.

        Raises:
            ConfigError: The trust root cannot be read.
            StoreError: The folder cannot be used. A damaged record is not told before `refresh`: it stops
                updates, and must not keep an app from the release it has.
        """
        self._record_path = folder / "record.json"
        metadata = metadata or folder / "metadata"
        make_folder(folder)
        make_folder(metadata / "root_history")  # python-tuf would make it for all users
        try:
            root = trust_root.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"trust_root {trust_root}: {error.strerror}; it is the root.json of `ferry keys init`"
            ) from error
        self._client = TufClient(metadata, root, metadata_url, transport)
        self._targets_url = targets_url
        self._shortcut = shortcut
        self._damage: StoreError | None = None
        self._record = self._read_record()
        self._signers: dict[str, str] = {}
        self._unsettled_etag = ""

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
        check_clock(self._record, now)
        if self._shortcut and self._is_unchanged(now):
            return False
        self._refresh_fully(now)
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
        signers = ""
        if self._client.is_fresh:
            target = self._client.target(rollout_target(name))
            signers = self._signers.get(rollout_role(name.publisher), "")
            if target is None or target.custom is None:
                if custom is not None:
                    raise UntrustedMetadataError(f"the rollout policy of {name} has vanished")
                return None
            custom = target.custom
        if custom is None:
            return None
        policy, record = accept_policy(self._record, name, custom, signers)
        self._write_record(record)
        return policy

    def manifest(self, name: ModelName, ref: ReleaseRef, now: datetime) -> Manifest:
        """Fetch and verify the manifest of a release the policy names.

        Raises:
            UntrustedMetadataError: Not signed by the publisher, or not the one the policy names.
            ForeignReleaseError: Genuine, but another model's or below the floor.
            NetworkError: It could not be fetched.
        """
        if not self._client.is_fresh:
            self._refresh_fully(now)
        target = self._client.target(release_target(name, ref.version))
        if target is None:
            raise UntrustedMetadataError(f"{name} {ref.version} is not signed by its publisher")
        # One digest, and no other beside it: it is also the name the file lies under.
        if target.hashes != {"sha256": ref.manifest_sha256} or target.length > MAX_MANIFEST_BYTES:
            raise UntrustedMetadataError(f"{name} {ref.version} is not the release the policy names")
        data = self._client.fetch(target, self._targets_url)
        try:
            release = parse_release(data)
        except ContractError as error:
            raise ForeignReleaseError(f"{name} {ref.version}: {error}") from error
        signers = self._signers.get(publisher_role(name.publisher), "")
        self._write_record(accept_release(self._record, name, ref, release, signers))
        return Manifest(release=release, data=data)

    def target(self, path: str) -> bytes | None:
        """The verified bytes of any target; None where nobody signed one.

        For what is not a release: whoever takes it must check that it is what was meant.

        Raises:
            UntrustedMetadataError: Verification failed.
            NetworkError: It could not be fetched.
        """
        target = self._client.target(path)
        return None if target is None else self._client.fetch(target, self._targets_url)

    def holds(self, path: str, file: Path) -> bool:
        """Whether a file has the signed bytes of a target already.

        Raises:
            UntrustedMetadataError: Verification failed.
            NetworkError: Metadata it needs could not be fetched.
        """
        target = self._client.target(path)
        return target is not None and self._client.is_intact(target, file)

    def _is_unchanged(self, now: datetime) -> bool:
        """One conditional request: 304 says that no metadata changed."""
        if not self._record.etag or is_due(self._record, now):
            return False
        expires = self._client.expires()
        if expires is None or now >= expires:
            return False
        try:
            return self._client.probe(self._record.etag)
        except DeviceError:
            self._client.drop()
            raise

    def _refresh_fully(self, now: datetime) -> None:
        self._forget_rotated()
        try:
            etag = self._client.refresh()
        except UntrustedMetadataError:
            # A new root may just have come, and its new keys have signed lower versions than the old ones.
            if not self._forget_rotated():
                raise
            etag = self._client.refresh()
        try:
            facts = self._client.facts()
            self._write_record(accept_metadata(self._record, facts, now))
        except DeviceError:
            self._client.drop()  # verified, and still not to be believed: nobody may ask it for a target
            raise
        self._signers = dict(facts.keys)
        self._unsettled_etag = etag

    def _forget_rotated(self) -> bool:
        """Let go of what replaced keys have signed; returns whether there was anything."""
        record = forget_rotated(self._record, *self._client.root_keys())
        if record is self._record:
            return False
        # Files first: after a crash in between, the record still says that they have to go.
        self._client.forget_snapshots()
        self._write_record(record)
        return True

    def _read_record(self) -> TrustRecord:
        try:
            return parse_record(read_bounded(self._record_path, MAX_RECORD_BYTES))
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
        if record is self._record:
            return
        try:
            data = dump_record(record)
        except ContractError as error:
            raise UntrustedMetadataError(
                f"this cannot be remembered, so it is not trusted: {error}"
            ) from error
        write_durably(self._record_path, data)
        self._record = record
