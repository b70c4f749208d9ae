"""Forged repositories: a copy of a server's published files, changed and signed with the tests' own keys."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, TargetFile
from tuf.api.serialization.json import JSONSerializer

from tests.support.fleet import TestServer

__all__ = ["Forger"]

_EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Forger:
    """A repository folder an attacker serves; `folder` holds metadata/ and targets/."""

    def __init__(self, server: TestServer, folder: Path) -> None:
        """Copy what the server has published by now."""
        self.folder = folder
        self._keys = server.root / "keys"
        shutil.copytree(server.data / "repository", folder)

    @property
    def metadata(self) -> Path:
        """Where metadata lies."""
        return self.folder / "metadata"

    def signer(self, role: str) -> CryptoSigner:
        """The genuine key of a role."""
        path = self._keys / "server" / "keys" / f"{role}.pem"
        if role in ("root", "targets"):
            path = self._keys / "offline" / f"{role}-1.pem"
        if role.startswith("pub-"):
            path = self._keys / "publishers" / f"{role.removeprefix('pub-')}.pem"
        return CryptoSigner(load_pem_private_key(path.read_bytes(), None))

    def file(self, role: str) -> Path:
        """The newest file of a role."""
        if role == "timestamp":
            return self.metadata / "timestamp.json"
        versions = [int(path.name.partition(".")[0]) for path in self.metadata.glob(f"*.{role}.json")]
        return self.metadata / f"{max(versions)}.{role}.json"

    def load(self, role: str) -> Metadata[Any]:
        """The newest metadata of a role."""
        return Metadata.from_file(str(self.file(role)))

    def save(self, role: str, metadata: Metadata[Any], signer: CryptoSigner | None = None) -> None:
        """Sign as the role (or with a foreign key) and write under its version."""
        metadata.sign(signer or self.signer(role))
        name = "timestamp.json" if role == "timestamp" else f"{metadata.signed.version}.{role}.json"
        (self.metadata / name).write_bytes(metadata.to_bytes(JSONSerializer(compact=True)))

    def expire(self, role: str, at: datetime) -> None:
        """Sign the next version of a role, expiring at an instant; snapshot and timestamp follow."""
        metadata = self.load(role)
        metadata.signed.version += 1
        metadata.signed.expires = at.replace(microsecond=0)
        self.save(role, metadata)
        self.republish(role)

    def change_policy(self, model: str, change: Mapping[str, Any] | None, *, raw: Any = None) -> None:
        """Sign another policy of `publisher/model` with the stolen online keys, and publish it."""
        publisher = model.partition("/")[0]
        role = f"ro-{publisher}"
        metadata = self.load(role)
        path = f"rollout/{model}"
        if change is None and raw is None:
            del metadata.signed.targets[path]
        else:
            custom = raw
            if change is not None:
                custom = {**dict(metadata.signed.targets[path].custom or {}), **change}
            metadata.signed.targets[path] = TargetFile(0, {"sha256": _EMPTY_SHA256}, path, {"custom": custom})
        metadata.signed.version += 1
        self.save(role, metadata)
        self.republish(role)

    def policy(self, model: str) -> dict[str, Any]:
        """The policy as published."""
        role = f"ro-{model.partition('/')[0]}"
        return dict(self.load(role).signed.targets[f"rollout/{model}"].custom)

    def republish(self, *roles: str) -> None:
        """Let a new snapshot name the newest version of roles, and a new timestamp name it."""
        snapshot = self.load("snapshot")
        for role in roles:
            if role not in ("snapshot", "timestamp", "root"):
                snapshot.signed.meta[f"{role}.json"] = MetaFile(self.load(role).signed.version)
        snapshot.signed.version += 1
        self.save("snapshot", snapshot)
        timestamp = self.load("timestamp")
        timestamp.signed.version += 1
        timestamp.signed.snapshot_meta = MetaFile(snapshot.signed.version)
        self.save("timestamp", timestamp)

    def rotate_root(self, *, new_keys: Mapping[str, CryptoSigner], signers: tuple[CryptoSigner, ...]) -> None:
        """Write the next root, with other keys for some roles, signed by `signers`."""
        metadata = self.load("root")
        root = metadata.signed
        root.version += 1
        root.expires = (root.expires + timedelta(days=1)).replace(microsecond=0)
        for role, signer in new_keys.items():
            for keyid in list(root.roles[role].keyids):
                root.revoke_key(keyid, role)
            root.add_key(signer.public_key, role)
        metadata.signatures.clear()
        for signer in signers:
            metadata.sign(signer, append=True)
        path = self.metadata / f"{root.version}.root.json"
        path.write_bytes(metadata.to_bytes(JSONSerializer(compact=True)))
