"""The first ceremony: keys, and the metadata that everything later builds on.

DIR/
  root.json               trust root; comes with every device
  offline/                root and targets keys; belong on a machine without a network
  publishers/<p>.pem      one key each; belongs to its publisher
  server/                 the data folder of `ferry serve`
    keys.json             role → key URI of the online roles (securesystemslib's)
    keys/                 snapshot, timestamp and ro-<p> keys
    repository/metadata/  signed metadata
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from ota_contract.names import check_name, publisher_role, rollout_role
from ota_server.adapters.ceremonies import OFFLINE_LIFETIME, delegated_role
from ota_server.adapters.files import fsync_directory, storage_errors, write_durably
from ota_server.adapters.key_files import generate_key, write_key
from ota_server.adapters.metadata_folder import METADATA
from ota_server.adapters.online_keys import KEYS
from ota_server.domain.expiry import LIFETIMES
from ota_server.errors import SetupError

__all__ = ["Ceremony", "Threshold", "init_keys"]

_SERIALIZER = JSONSerializer(compact=False)
_Signed = TypeVar("_Signed", Root, Targets, Snapshot, Timestamp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """`needed` of `keys` have to sign."""

    needed: int
    keys: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceremony:
    """What was made, as paths to hand out."""

    root: Path
    offline: Path
    publishers: Sequence[Path]
    server: Path


def init_keys(
    folder: Path,
    publishers: Sequence[str],
    *,
    root: Threshold,
    targets: Threshold,
    now: datetime,
    passphrase: str | None = None,
) -> Ceremony:
    """Create every key and the first metadata; all of it, or nothing.

    Args:
        folder: A new one.
        publishers: Who publishes.
        root: Root's keys.
        targets: The targets role's keys.
        now: The time.
        passphrase: Encrypts every key file; None writes them plain.

    Raises:
        SetupError: The folder holds something already: keys are never overwritten.
        KeyFileError: The passphrase is too short.
        InvalidNameError: A publisher's name is not well formed.
        StorageError: The file system refuses.
    """
    for publisher in publishers:
        check_name(publisher, what="publisher")
    if not publishers:
        raise SetupError("name at least one publisher: --publisher NAME")
    if len(set(publishers)) != len(publishers):
        raise SetupError("a publisher is named twice")
    if folder.name in ("", ".."):
        raise SetupError(f"{folder} exists; keys are never overwritten, so give a new folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SetupError(f"{folder} is not empty; keys are never overwritten, so give a new folder")
    staged = folder.with_name(f".{folder.name}.new")
    with storage_errors(folder):
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True, mode=0o700)
        try:
            _write_all(staged, publishers, root, targets, now, passphrase)
            if folder.exists():
                folder.rmdir()
            staged.rename(folder)
            fsync_directory(folder.resolve().parent)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return Ceremony(
        root=folder / "root.json",
        offline=folder / "offline",
        publishers=[folder / "publishers" / f"{publisher}.pem" for publisher in publishers],
        server=folder / "server",
    )


def _write_all(
    staged: Path,
    publishers: Sequence[str],
    root: Threshold,
    targets: Threshold,
    now: datetime,
    passphrase: str | None,
) -> None:
    """Keys first, then metadata from the leaves to the timestamp."""
    offline = {
        role: [
            _new_key(staged / "offline" / f"{role}-{number}.pem", passphrase)
            for number in range(1, threshold.keys + 1)
        ]
        for role, threshold in (("root", root), ("targets", targets))
    }
    online_roles = ("snapshot", "timestamp", *map(rollout_role, publishers))
    keys = staged / "server" / "keys"
    online = {role: _new_key(keys / f"{role}.pem", passphrase) for role in online_roles}
    owners = {
        publisher_role(publisher): _new_key(staged / "publishers" / f"{publisher}.pem", passphrase)
        for publisher in publishers
    }
    uris = {role: f"file2:keys/{role}.pem" for role in online_roles}
    write_durably(staged / "server" / KEYS, json.dumps(uris, indent=2).encode(), mode=0o600)

    signed_root = Root(consistent_snapshot=True, expires=_after(now, OFFLINE_LIFETIME))
    for role, signers in (*offline.items(), *((role, [online[role]]) for role in ("snapshot", "timestamp"))):
        for signer in signers:
            signed_root.add_key(signer.public_key, role)
    signed_root.roles["root"].threshold = root.needed
    signed_root.roles["targets"].threshold = targets.needed
    top = Targets(expires=_after(now, OFFLINE_LIFETIME), delegations=_delegations(publishers, owners, online))
    # Signed empty, so that every delegated role exists from the first snapshot on.
    leaves = {
        **{
            role: _sign(Targets(expires=_after(now, OFFLINE_LIFETIME)), [key]) for role, key in owners.items()
        },
        **{
            role: _sign(Targets(expires=_after(now, LIFETIMES[role.partition("-")[0]])), [online[role]])
            for role in map(rollout_role, publishers)
        },
    }
    metadata = staged / "server" / METADATA
    root_bytes = _sign(signed_root, offline["root"])
    _write(metadata / "1.root.json", root_bytes)
    _write(staged / "root.json", root_bytes)
    _write(metadata / "1.targets.json", _sign(top, offline["targets"]))
    for role, data in leaves.items():
        _write(metadata / f"1.{role}.json", data)
    files = {f"{role}.json": MetaFile(1) for role in ("targets", *leaves)}
    snapshot = Snapshot(expires=_after(now, LIFETIMES["snapshot"]), meta=files)
    _write(metadata / "1.snapshot.json", _sign(snapshot, [online["snapshot"]]))
    timestamp = Timestamp(expires=_after(now, LIFETIMES["timestamp"]), snapshot_meta=MetaFile(1))
    _write(metadata / "timestamp.json", _sign(timestamp, [online["timestamp"]]))


def _delegations(
    publishers: Sequence[str], owners: dict[str, CryptoSigner], online: dict[str, CryptoSigner]
) -> Delegations:
    """Two roles a publisher: it alone signs below `rel/<p>/`, the server below `rollout/<p>/`."""
    pairs = [role(publisher) for publisher in publishers for role in (publisher_role, rollout_role)]
    keys = {role: {**owners, **online}[role].public_key for role in pairs}
    return Delegations(
        keys={key.keyid: key for key in keys.values()},
        roles={role: delegated_role(role, key) for role, key in keys.items()},
    )


def _new_key(path: Path, passphrase: str | None) -> CryptoSigner:
    signer = generate_key()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_key(path, signer, passphrase)
    return signer


def _sign(signed: _Signed, signers: Sequence[CryptoSigner]) -> bytes:
    metadata = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes(_SERIALIZER)


def _after(now: datetime, lifetime: timedelta) -> datetime:
    return (now + lifetime).replace(microsecond=0)


def _write(path: Path, data: bytes) -> None:
    write_durably(path, data)
