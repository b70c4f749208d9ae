"""The TUF repository on disk: what devices read, signed by the server's online keys.

Consistent snapshots: every file but the timestamp carries its version or digest in its name and never
changes. A publication writes its files, then the snapshot that names them, then replaces the timestamp:
what no timestamp leads to was never published, and the next publication writes over it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from securesystemslib.exceptions import Error as SecurityError
from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import (
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from ota_contract.documents import canonical_json, format_instant
from ota_contract.errors import ContractError
from ota_contract.names import ModelName, publisher_role, rollout_role, rollout_target
from ota_contract.policy import Policy, parse_policy, policy_to_json
from ota_server.adapters.files import write_durably
from ota_server.domain.release import TargetEntry
from ota_server.errors import (
    MetadataVersionError,
    RepositoryError,
    SetupError,
    UnknownPublisherError,
    UntrustedMetadataError,
)
from ota_server.operations.ports import Clock

__all__ = ["KEYS", "LIFETIMES", "MAX_PUBLISHER_METADATA_BYTES", "METADATA", "TARGETS", "TufRepository"]

KEYS = "keys.json"
"""Role → key URI, in the data folder."""
METADATA = Path("repository/metadata")
TARGETS = Path("repository/targets")
LIFETIMES: Mapping[str, timedelta] = {
    "timestamp": timedelta(days=7),
    "snapshot": timedelta(days=30),
    "ro": timedelta(days=30),
}
"""How long what the server signs is good for; signed anew when half of it has passed."""
MAX_PUBLISHER_METADATA_BYTES = 4 * 1024 * 1024

_EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_SERIALIZER = JSONSerializer(compact=True)
_Signed = TypeVar("_Signed", Root, Targets, Snapshot, Timestamp)


class TufRepository:
    """See `operations.ports.Repository`."""

    def __init__(self, data: Path, clock: Clock) -> None:
        """Open the repository of a data folder.

        Raises:
            SetupError: The folder is not one of `ferry keys init`, or a key cannot be read.
            RepositoryError: The metadata is torn.
        """
        self._data = data
        self._metadata = data / METADATA
        self._targets = data / TARGETS
        self._clock = clock
        self._lock = threading.RLock()
        self._uris = self._read_uris()
        self.publishers()

    def publishers(self) -> Sequence[str]:
        """Publishers the targets role delegates to."""
        roles = self._delegations().roles or {}
        return sorted(name.removeprefix("pub-") for name in roles if name.startswith("pub-"))

    def publisher_metadata(self, publisher: str) -> bytes:
        """A publisher's current signed metadata."""
        self._check_publisher(publisher)
        role = publisher_role(publisher)
        return self._read(f"{self._version(role)}.{role}.json")

    def targets(self, publisher: str) -> Mapping[str, TargetEntry]:
        """A publisher's current targets."""
        self._check_publisher(publisher)
        return _entries(self._load(publisher_role(publisher), Targets).signed)

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
            self._load("targets", Targets).signed.verify_delegate(
                role, parsed.signed_bytes, parsed.signatures
            )
        except (TufError, SecurityError, ValueError) as error:
            raise UntrustedMetadataError(
                f"{role} is not signed with {publisher}'s key ({error}); publish with the key the operator "
                "gave this publisher"
            ) from error
        current = self._version(role)
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
        return _entries(signed)

    def publish_release(self, publisher: str, metadata: bytes, path: str, manifest: bytes) -> None:
        """Make verified metadata and the one manifest it adds visible to devices."""
        with self._lock:
            entries = self.verified_targets(publisher, metadata)
            write_durably(self._target_path(path, entries[path].sha256), manifest)
            role = publisher_role(publisher)
            version = self._version(role) + 1
            write_durably(self._metadata / f"{version}.{role}.json", metadata)
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
        target = self._load(rollout_role(name.publisher), Targets).signed.targets.get(rollout_target(name))
        if target is None:
            return None
        try:
            return parse_policy(target.custom)
        except ContractError as error:
            raise RepositoryError(f"the published policy of {name} is not readable: {error}") from error

    def publish_policies(self, policies: Sequence[Policy]) -> None:
        """Replace policies; each gets the revision after its former one."""
        with self._lock:
            changed: dict[str, Metadata[Targets]] = {}
            for policy in policies:
                role = rollout_role(policy.name.publisher)
                if role not in changed:
                    changed[role] = self._load(role, Targets)
                published = self.policy(policy.name)
                revision = published.revision + 1 if published else 1
                target = TargetFile(
                    0,
                    {"sha256": _EMPTY_SHA256},
                    rollout_target(policy.name),
                    {"custom": policy_to_json(replace(policy, revision=revision))},
                )
                changed[role].signed.targets[target.path] = target
                empty = self._target_path(target.path, _EMPTY_SHA256)
                if not empty.exists():  # Ferry's devices do not fetch it, but any TUF client may
                    write_durably(empty, b"")
            self._publish({role: self._write_next(role, metadata) for role, metadata in changed.items()})

    def keep_fresh(self) -> None:
        """Sign anew what would expire before long."""
        with self._lock:
            stale = {
                role: self._write_next(role, metadata)
                for role in map(rollout_role, self.publishers())
                if self._is_stale(metadata := self._load(role, Targets), LIFETIMES["ro"])
            }
            if (
                stale
                or self._is_stale(self._timestamp(), LIFETIMES["timestamp"])
                or self._is_stale(self._load("snapshot", Snapshot), LIFETIMES["snapshot"])
            ):
                self._publish(stale)

    def _publish(self, versions: Mapping[str, int]) -> None:
        """Let a snapshot name new versions; the timestamp, last, makes them visible."""
        snapshot = self._load("snapshot", Snapshot)
        for role, version in versions.items():
            snapshot.signed.meta[f"{role}.json"] = MetaFile(version)
        number = snapshot.signed.version + 1
        snapshot.signed.version = number
        self._write_signed(snapshot, "snapshot", f"{number}.snapshot.json")
        timestamp = self._timestamp()
        timestamp.signed.version += 1
        timestamp.signed.snapshot_meta = MetaFile(number)
        # TUF has no time of signing. Devices keep the latest, and see by it that a clock was set back.
        timestamp.signed.unrecognized_fields["issued"] = format_instant(self._clock())
        self._write_signed(timestamp, "timestamp", "timestamp.json")

    def _write_next(self, role: str, metadata: Metadata[Targets]) -> int:
        metadata.signed.version += 1
        self._write_signed(metadata, role, f"{metadata.signed.version}.{role}.json")
        return metadata.signed.version

    def _write_signed(
        self, metadata: Metadata[Targets] | Metadata[Snapshot] | Metadata[Timestamp], role: str, file: str
    ) -> None:
        lifetime = LIFETIMES["ro" if role.startswith("ro-") else role]
        metadata.signed.expires = (self._clock() + lifetime).replace(microsecond=0)
        try:
            metadata.sign(self._signer(role))
        except TufError as error:
            raise SetupError(f"the key of {role} does not sign: {error}") from error
        write_durably(self._metadata / file, metadata.to_bytes(_SERIALIZER))

    def _signer(self, role: str) -> Signer:
        delegated = role.startswith("ro-")
        delegator: Root | Delegations = self._delegations() if delegated else self._root().signed
        keyid = (delegator.roles or {})[role].keyids[0]
        uri = self._uris.get(role, "")
        scheme, _, path = uri.partition(":")
        if scheme == "file2" and not Path(path).is_absolute():
            uri = f"{scheme}:{(self._data / path).resolve()}"
        try:
            return Signer.from_priv_key_uri(uri, delegator.keys[keyid])
        except (SecurityError, OSError, ValueError) as error:
            raise SetupError(
                f"the key of {role} ({uri or 'not in ' + KEYS}) cannot be used: {error}"
            ) from error

    def _is_stale(
        self, metadata: Metadata[Targets] | Metadata[Snapshot] | Metadata[Timestamp], lifetime: timedelta
    ) -> bool:
        expires: datetime = metadata.signed.expires
        return self._clock() + lifetime / 2 > expires

    def _version(self, role: str) -> int:
        meta = self._load("snapshot", Snapshot).signed.meta.get(f"{role}.json")
        if meta is None:
            raise RepositoryError(f"the snapshot does not name {role}")
        return int(meta.version)

    def _load(self, role: str, kind: type[_Signed]) -> Metadata[_Signed]:
        version = (
            self._timestamp().signed.snapshot_meta.version if role == "snapshot" else self._version(role)
        )
        return self._parse(f"{version}.{role}.json", kind)

    def _timestamp(self) -> Metadata[Timestamp]:
        return self._parse("timestamp.json", Timestamp)

    def _root(self) -> Metadata[Root]:
        versions = [int(path.name.partition(".")[0]) for path in self._metadata.glob("*.root.json")]
        return self._parse(f"{max(versions, default=1)}.root.json", Root)

    def _delegations(self) -> Delegations:
        delegations = self._load("targets", Targets).signed.delegations
        if delegations is None:
            raise RepositoryError("the targets role delegates to nobody")
        return delegations

    def _parse(self, file: str, kind: type[_Signed]) -> Metadata[_Signed]:
        try:
            metadata: Metadata[_Signed] = Metadata.from_bytes(self._read(file))
        except TufError as error:
            raise RepositoryError(f"{self._metadata / file} is damaged: {error}") from error
        if not isinstance(metadata.signed, kind):
            raise RepositoryError(f"{self._metadata / file} is {metadata.signed.type} metadata")
        return metadata

    def _read(self, file: str) -> bytes:
        try:
            return (self._metadata / file).read_bytes()
        except FileNotFoundError as error:
            raise RepositoryError(
                f"{self._metadata / file} is missing; restore the repository folder from a backup"
            ) from error
        except OSError as error:
            raise RepositoryError(f"{self._metadata / file}: {error.strerror}") from error

    def _read_uris(self) -> Mapping[str, str]:
        path = self._data / KEYS
        try:
            uris = json.loads(path.read_bytes())
            return {str(role): str(uri) for role, uri in uris.items()}
        except (OSError, ValueError, AttributeError) as error:
            raise SetupError(
                f"{path} is not readable ({error}); `ferry keys init DIR --publisher NAME` makes a data "
                "folder in DIR/server"
            ) from error

    def _check_publisher(self, publisher: str) -> None:
        if publisher not in self.publishers():
            raise UnknownPublisherError(
                f"there is no publisher {publisher!r} here; `ferry keys init` names them"
            )

    def _target_path(self, path: str, sha256: str) -> Path:
        folder, _, name = path.rpartition("/")
        return self._targets / folder / f"{sha256}.{name}"


def _entries(targets: Targets) -> dict[str, TargetEntry]:
    return {
        path: TargetEntry(
            length_bytes=target.length,
            sha256=target.hashes.get("sha256", ""),
            custom=canonical_json(target.unrecognized_fields).decode(),
        )
        for path, target in targets.targets.items()
    }
