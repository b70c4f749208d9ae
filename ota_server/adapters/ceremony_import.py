"""Publishing a signed change of keys: what a device will check is checked first, then all of it appears.

The request is untrusted. Signatures are judged by what is published here, never by what the request says
is published, and the whole state that devices would find is verified in memory, from root to timestamp,
before the first byte is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.exceptions import Error as SecurityError
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Delegations, Metadata, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from ota_contract.names import publisher_role, release_target, rollout_role
from ota_server.adapters.ceremonies import delegated_role
from ota_server.adapters.metadata_folder import MetadataFolder
from ota_server.adapters.online_keys import OnlineKeys
from ota_server.adapters.publication import complete, publish_together
from ota_server.adapters.repository import target_entries
from ota_server.adapters.signing_requests import SigningRequest, needs_of, printable
from ota_server.errors import CeremonyError, MissingSignaturesError, RepositoryError, StaleRequestError
from ota_server.operations.ports import Clock, Records, Registry
from ota_server.settings import Secrets

__all__ = ["Imported", "import_request"]

_SERIALIZER = JSONSerializer(compact=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What devices see now."""

    versions: Mapping[str, int]
    """Version by role that was published; empty where the request had been imported before."""
    forgotten: tuple[str, ...]
    """Releases that are signed no more."""


def import_request(
    request: SigningRequest, data: Path, *, registry: Registry, clock: Clock, secrets: Secrets
) -> Imported:
    """Publish a request; importing it again changes nothing.

    Args:
        request: Untrusted.
        data: The data folder.
        registry: Its database, whose write transaction keeps every other publication out.
        clock: The time.
        secrets: Opens the online keys.

    Raises:
        StaleRequestError: Something was published since it was prepared.
        MissingSignaturesError: A threshold is not met.
        CeremonyError: The change would not leave a sound repository.
        KeyFileError: An online key cannot be used.
        StorageError: The disk refuses; what had begun by then is completed by the server.
    """
    with registry.write() as records:
        complete(data)
        folder = MetadataFolder(data)
        if _is_published(request, folder):
            return Imported(versions={}, forgotten=_forget(request, records, folder))
        judged = _judged_here(request, folder)
        _check_form(judged, clock())
        _check_signatures(judged)
        files, keys = _next_state(judged, folder, OnlineKeys(data, clock, secrets))
        publish_together(data, files, json.dumps(keys, indent=2).encode())
        versions = {role: int(metadata.signed.version) for role, metadata in request.next.items()}
        return Imported(versions=versions, forgotten=_forget(request, records, folder))


def _is_published(request: SigningRequest, folder: MetadataFolder) -> bool:
    """Whether every part is or was published just like this."""
    for role, metadata in request.next.items():
        number = metadata.signed.version
        try:
            newest = folder.root().signed.version if role == "root" else folder.version(role)
            kind: Any = Root if role == "root" else Targets
            if number > newest or folder.parse(f"{number}.{role}.json", kind).signed != metadata.signed:
                return False
        except RepositoryError:
            return False
    return True


def _judged_here(request: SigningRequest, folder: MetadataFolder) -> SigningRequest:
    """The request with what is really published in place of what it says is published."""
    roots, targets = folder.roots(), folder.targets()
    current = {"targets": targets}
    known = folder.snapshot().signed.meta
    for role in request.next:
        if role.startswith("pub-") and f"{role}.json" in known:
            current[role] = folder.targets(role)
    stale = [
        role
        for role, metadata in current.items()
        if role not in request.current or request.current[role].signed != metadata.signed
    ]
    if request.roots[-1].signed != roots[-1].signed:
        stale.append("root")
    if stale:
        raise StaleRequestError(
            f"{', '.join(sorted(stale))} changed since the request was prepared; prepare and sign a new one"
        )
    for role, metadata in request.next.items():
        before = roots[-1].signed.version if role == "root" else 0
        if role in current:
            before = current[role].signed.version
        if metadata.signed.version != before + 1:
            raise StaleRequestError(
                f"{role} {metadata.signed.version} does not follow the published {before}"
            )
    return replace(request, roots=roots, current=current)


def _check_form(request: SigningRequest, now: datetime) -> None:
    """Refuse what people may have signed by mistake."""
    delegations = request.targets.delegations
    roles = (delegations.roles or {}) if delegations else {}
    if delegations is None or request.targets.targets:
        raise CeremonyError("targets only delegates; it names no file itself")
    publishers = sorted(role.removeprefix("pub-") for role in roles if role.startswith("pub-"))
    pairs = {role(publisher) for publisher in publishers for role in (publisher_role, rollout_role)}
    if roles.keys() != pairs:
        raise CeremonyError("every publisher has two roles, pub-NAME and ro-NAME, and there are no others")
    for name, delegated in roles.items():
        keyid = delegated.keyids[0] if len(delegated.keyids) == 1 else ""
        if keyid not in delegations.keys or delegated != delegated_role(name, delegations.keys[keyid]):
            raise CeremonyError(f"{name} is not delegated to one key, terminating, below its own paths")
    strangers = request.next.keys() - {"root", "targets", *map(publisher_role, publishers)}
    strangers |= request.online.keys() - {"snapshot", "timestamp", *map(rollout_role, publishers)}
    if strangers:
        raise CeremonyError(f"{', '.join(sorted(strangers))}: not a role this request can change")
    if not request.root.consistent_snapshot:
        raise CeremonyError("root gives up consistent snapshots, on which devices and caches depend")
    for role, metadata in request.next.items():
        if metadata.signed.is_expired(now):
            raise CeremonyError(
                f"{role} expired on {metadata.signed.expires:%Y-%m-%d}; prepare a new request"
            )
        if isinstance(metadata.signed, Targets) and role.startswith("pub-"):
            _check_releases(role, metadata.signed, request.current.get(role))


def _check_releases(role: str, after: Targets, before: Metadata[Targets] | None) -> None:
    """A ceremony signs releases anew or drops them; it publishes none."""
    known = target_entries(before.signed) if before else {}
    if after.delegations is not None:
        raise CeremonyError(f"{role} delegates, which a publisher cannot")
    for path, entry in target_entries(after).items():
        if known.get(path) != entry:
            raise CeremonyError(
                f"{role} changes or adds {printable(path)}; releases are published, not imported"
            )


def _check_signatures(request: SigningRequest) -> None:
    lacking = [
        f"{need.role} needs {need.missing} more of {need.by}" for need in needs_of(request) if need.missing
    ]
    if lacking:
        raise MissingSignaturesError(f"{'; '.join(lacking)}; `ferry keys show` names them")


def _next_state(
    request: SigningRequest, folder: MetadataFolder, online: OnlineKeys
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Every file of the next state in the order to write them, verified, and where its keys are."""
    root, targets = request.root, request.targets
    delegations = targets.delegations or Delegations({}, {})
    roles = delegations.roles or {}
    uris = {
        role: uri
        for role, uri in {**online.uris(), **request.online}.items()
        if role in ("snapshot", "timestamp") or role in roles
    }
    signed = {role: request.next[role] for role in request.next if role.startswith("pub-")}
    leaves = {
        role: (metadata.signed.version, metadata.to_bytes(_SERIALIZER)) for role, metadata in signed.items()
    }
    for role in roles:
        if role.startswith("ro-") and (role in request.online or _is_orphan(role, delegations, folder)):
            leaves[role] = _signed_rollouts(role, delegations, folder, online, uris)
    versions = {role: version for role, (version, _) in leaves.items()}
    files = {f"{version}.{role}.json": data for role, (version, data) in leaves.items()}
    for role in ("targets", "root"):
        if role in request.next:
            metadata = request.next[role]
            files[f"{metadata.signed.version}.{role}.json"] = metadata.to_bytes(JSONSerializer(compact=False))
            if role == "targets":
                versions[role] = metadata.signed.version
    files.update(online.sign_visible(folder, versions, root, uris=uris))
    _verify(request, folder, files, versions)
    return files, uris


def _is_orphan(role: str, delegations: Delegations, folder: MetadataFolder) -> bool:
    """Whether the rollouts of today are signed with another key than the next delegation names."""
    now = (folder.delegations().roles or {}).get(role)
    return now is None or now.keyids != (delegations.roles or {})[role].keyids


def _signed_rollouts(
    role: str,
    delegations: Delegations,
    folder: MetadataFolder,
    online: OnlineKeys,
    uris: Mapping[str, str],
) -> tuple[int, bytes]:
    """A publisher's policies as they are, signed with the key the next delegation names."""
    known = f"{role}.json" in folder.snapshot().signed.meta
    metadata = folder.targets(role) if known else Metadata(Targets(version=1))
    if known:
        metadata.signed.version += 1
    return metadata.signed.version, online.sign(metadata, role, delegations, uris=uris)


def _verify(
    request: SigningRequest, folder: MetadataFolder, files: Mapping[str, bytes], versions: Mapping[str, int]
) -> None:
    """Walk the next state from root to leaves, as a device will."""
    root, targets = request.root, request.targets
    try:
        timestamp: Metadata[Timestamp] = Metadata.from_bytes(files["timestamp.json"])
        number = timestamp.signed.snapshot_meta.version
        snapshot: Metadata[Snapshot] = Metadata.from_bytes(files[f"{number}.snapshot.json"])
        top = request.next.get("targets", request.current["targets"])
        for role, metadata in (("timestamp", timestamp), ("snapshot", snapshot), ("targets", top)):
            root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        for role in (targets.delegations or Delegations({}, {})).roles or {}:
            file = f"{versions.get(role) or folder.version(role)}.{role}.json"
            leaf: Metadata[Targets] = Metadata.from_bytes(files[file] if file in files else folder.read(file))
            targets.verify_delegate(role, leaf.signed_bytes, leaf.signatures)
    except (TufError, SecurityError, ValueError, KeyError) as error:
        raise CeremonyError(f"devices would refuse the result: {error}") from error


def _forget(request: SigningRequest, records: Records, folder: MetadataFolder) -> tuple[str, ...]:
    """Take out of the index what a publisher did not sign anew: it must not bind its next release."""
    forgotten = []
    for role in request.next:
        if not role.startswith("pub-"):
            continue
        try:
            signed = folder.targets(role).signed.targets
        except RepositoryError:
            continue
        for record in records.releases.all():
            if publisher_role(record.name.publisher) != role:
                continue
            if release_target(record.name, record.version) not in signed:
                records.releases.remove(record.name, record.version)
                forgotten.append(f"{record.name} {record.version}")
    return tuple(sorted(forgotten))
