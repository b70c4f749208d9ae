"""The TUF repository on disk: what devices read, signed by the server's online keys.

Consistent snapshots: every file but the timestamp carries its version or digest in its name and never
changes. A publication writes its files, then the snapshot that names them, then replaces the timestamp:
what no timestamp leads to was never published, and the next publication writes over it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from securesystemslib.exceptions import Error as SecurityError
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Metadata, Snapshot, TargetFile, Targets, Timestamp

from ota_contract.documents import canonical_json
from ota_contract.errors import ContractError
from ota_contract.names import ModelName, publisher_role, rollout_role, rollout_target
from ota_contract.policy import Policy, parse_policy, policy_to_json
from ota_server.adapters.files import write_durably
from ota_server.adapters.metadata_folder import MetadataFolder
from ota_server.adapters.online_keys import OnlineKeys
from ota_server.adapters.publication import complete
from ota_server.domain.expiry import LIFETIMES
from ota_server.domain.release import TargetEntry
from ota_server.errors import (
    KeyFileError,
    MetadataVersionError,
    RepositoryError,
    UnknownPublisherError,
    UntrustedMetadataError,
)
from ota_server.operations.ports import Clock
from ota_server.settings import Secrets, no_secrets

__all__ = ["MAX_PUBLISHER_METADATA_BYTES", "TARGETS", "TufRepository", "target_entries"]

TARGETS = Path("repository/targets")
MAX_PUBLISHER_METADATA_BYTES = 4 * 1024 * 1024

_EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class TufRepository:
    """See `operations.ports.Repository`."""

    def __init__(self, data: Path, clock: Clock, secrets: Secrets = no_secrets) -> None:
        """Open the repository of a data folder.

        Raises:
            SetupError: The folder is not one of `ferry keys init`.
            RepositoryError: The metadata is torn.
        """
        self._data = data
        self._folder = MetadataFolder(data)
        self._targets = data / TARGETS
        self._clock = clock
        self._lock = threading.RLock()
        self._keys = OnlineKeys(data, clock, secrets)
        self.publishers()

    def open_keys(self) -> None:
        """Open every online key that is a file: a wrong passphrase is told at the start, not in three days.

        Raises:
            KeyFileError: One cannot be opened.
        """
        self._keys.open_files(self._folder)

    def publishers(self) -> Sequence[str]:
        """Publishers the targets role delegates to."""
        return self._folder.publishers()

    def expiries(self) -> Mapping[str, datetime]:
        """When the current metadata of each role expires."""
        folder = self._folder
        roles = [role(name) for name in self.publishers() for role in (publisher_role, rollout_role)]
        return {
            "root": folder.root().signed.expires,
            "timestamp": folder.timestamp().signed.expires,
            "snapshot": folder.snapshot().signed.expires,
            **{role: folder.targets(role).signed.expires for role in ("targets", *roles)},
        }

    def publisher_metadata(self, publisher: str) -> bytes:
        """A publisher's current signed metadata."""
        self._check_publisher(publisher)
        role = publisher_role(publisher)
        return self._folder.read(f"{self._folder.version(role)}.{role}.json")

    def targets(self, publisher: str) -> Mapping[str, TargetEntry]:
        """A publisher's current targets."""
        self._check_publisher(publisher)
        return target_entries(self._folder.targets(publisher_role(publisher)).signed)

    def verified_targets(self, publisher: str, metadata: bytes) -> Mapping[str, TargetEntry]:
        """The targets of untrusted metadata, once it is proven to succeed the current one."""
        self._check_publisher(publisher)
        role = publisher_role(publisher)
        if len(metadata) > MAX_PUBLISHER_METADATA_BYTES:
            raise UntrustedMetadataError(f"{role} is longer than {MAX_PUBLISHER_METADATA_BYTES} bytes")
        try:
            parsed: Metadata[Targets] = Metadata.from_bytes(metadata)
            signed = parsed.signed
            if not isinstance(signed, Targets):
                raise UntrustedMetadataError(f"{role} is {signed.type} metadata, not targets")
            self._folder.targets().signed.verify_delegate(role, parsed.signed_bytes, parsed.signatures)
        except (TufError, SecurityError, ValueError) as error:
            raise UntrustedMetadataError(
                f"{role} is not signed with {publisher}'s key ({error}); publish with the key the operator "
                "gave this publisher"
            ) from error
        current = self._folder.version(role)
        if signed.version != current + 1:
            raise MetadataVersionError(
                f"{role} version {signed.version} does not follow the current {current}; publish again"
            )
        if signed.is_expired(self._clock()):
            raise UntrustedMetadataError(f"{role} has expired already ({signed.expires}); check the clock")
        if signed.delegations is not None:
            raise UntrustedMetadataError(f"{role} delegates, which a publisher cannot")
        for path, target in signed.targets.items():
            if target.hashes.keys() != {"sha256"}:
                # Devices check every digest given, and look for the file under the first of them.
                raise UntrustedMetadataError(f"{role} pins {path} by other digests than SHA-256 alone")
        return target_entries(signed)

    def publish_release(self, publisher: str, metadata: bytes, path: str, manifest: bytes) -> None:
        """Make verified metadata and the one manifest it adds visible to devices."""
        with self._publishing():
            entries = self.verified_targets(publisher, metadata)
            write_durably(self._target_path(path, entries[path].sha256), manifest)
            role = publisher_role(publisher)
            version = self._folder.version(role) + 1
            write_durably(self._folder.path / f"{version}.{role}.json", metadata)
            self._publish({role: version})

    def manifest(self, path: str, sha256: str) -> bytes:
        """A published manifest's bytes."""
        try:
            return self._target_path(path, sha256).read_bytes()
        except OSError as error:
            raise RepositoryError(f"published manifest {path} is not readable: {error.strerror}") from error

    def policy(self, name: ModelName) -> Policy | None:
        """A model's policy as devices see it."""
        self._check_publisher(name.publisher)
        target = self._folder.targets(rollout_role(name.publisher)).signed.targets.get(rollout_target(name))
        if target is None:
            return None
        try:
            return parse_policy(target.custom)
        except ContractError as error:
            raise RepositoryError(f"the published policy of {name} is not readable: {error}") from error

    def publish_policies(self, policies: Sequence[Policy]) -> None:
        """Replace policies; each gets the revision after its former one."""
        with self._publishing():
            changed: dict[str, Metadata[Targets]] = {}
            for policy in policies:
                role = rollout_role(policy.name.publisher)
                if role not in changed:
                    changed[role] = self._folder.targets(role)
                published = self.policy(policy.name)
                revision = published.revision + 1 if published else 1
                custom = policy_to_json(replace(policy, revision=revision))
                try:
                    parse_policy(custom)
                except ContractError as error:  # never signed: every device would refuse it, for good
                    raise RepositoryError(
                        f"the policy of {policy.name} cannot be published: {error}"
                    ) from error
                path = rollout_target(policy.name)
                target = TargetFile(0, {"sha256": _EMPTY_SHA256}, path, {"custom": custom})
                changed[role].signed.targets[target.path] = target
                empty = self._target_path(target.path, _EMPTY_SHA256)
                if not empty.exists():  # Ferry's devices do not fetch it, but any TUF client may
                    write_durably(empty, b"")
            self._publish({role: self._write_next(role, metadata) for role, metadata in changed.items()})

    def keep_fresh(self) -> None:
        """Sign anew what would expire before long; what can be signed is, whatever else cannot."""
        failures: list[KeyFileError] = []
        with self._publishing():
            stale: dict[str, int] = {}
            for role in map(rollout_role, self.publishers()):
                metadata = self._folder.targets(role)
                if self._is_stale(metadata, LIFETIMES["ro"]):
                    try:
                        stale[role] = self._write_next(role, metadata)
                    except KeyFileError as error:
                        # One publisher's key must not cost every device its timestamp.
                        failures.append(error)
            if (
                stale
                or self._is_stale(self._folder.timestamp(), LIFETIMES["timestamp"])
                or self._is_stale(self._folder.snapshot(), LIFETIMES["snapshot"])
            ):
                self._publish(stale)
        if failures:
            raise failures[0]

    def complete(self) -> None:
        """Finish a ceremony's publication that a crash cut short."""
        with self._publishing():
            pass

    @contextmanager
    def _publishing(self) -> Iterator[None]:
        """Alone among this process's threads, and on top of a ceremony's publication that was cut short."""
        with self._lock:
            complete(self._data)
            yield

    def _publish(self, versions: Mapping[str, int]) -> None:
        """Let a snapshot name new versions; the timestamp, last, makes them visible."""
        root = self._folder.root().signed
        for file, data in self._keys.sign_visible(self._folder, versions, root).items():
            write_durably(self._folder.path / file, data)

    def _write_next(self, role: str, metadata: Metadata[Targets]) -> int:
        metadata.signed.version += 1
        data = self._keys.sign(metadata, role, self._folder.delegations())
        write_durably(self._folder.path / f"{metadata.signed.version}.{role}.json", data)
        return metadata.signed.version

    def _is_stale(
        self, metadata: Metadata[Targets] | Metadata[Snapshot] | Metadata[Timestamp], lifetime: timedelta
    ) -> bool:
        expires: datetime = metadata.signed.expires
        return self._clock() + lifetime / 2 > expires

    def _check_publisher(self, publisher: str) -> None:
        if publisher not in self.publishers():
            raise UnknownPublisherError(
                f"there is no publisher {publisher!r} here; `ferry keys status` names them, "
                "`ferry keys delegate` adds one"
            )

    def _target_path(self, path: str, sha256: str) -> Path:
        folder, _, name = path.rpartition("/")
        return self._targets / folder / f"{sha256}.{name}"


def target_entries(targets: Targets) -> dict[str, TargetEntry]:
    """What targets metadata pins, by path."""
    return {
        path: TargetEntry(
            length_bytes=target.length,
            sha256=target.hashes.get("sha256", ""),
            custom=canonical_json(target.unrecognized_fields).decode(),
        )
        for path, target in targets.targets.items()
    }
