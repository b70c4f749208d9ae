"""A TUF repository in a folder, with keys at hand, to be changed at will: what conformance is judged by."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

__all__ = ["Repository", "serve"]


def _soon() -> datetime:
    return (datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0)


@dataclass(slots=True)
class Repository:
    """Roles as objects; `publish` signs and writes them."""

    folder: Path
    consistent: bool = True
    root: Root = field(init=False)
    roles: dict[str, Any] = field(default_factory=dict)
    """targets and delegated roles, snapshot and timestamp."""
    keys: dict[str, list[CryptoSigner]] = field(default_factory=dict)
    roots: dict[int, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """One key a role, nothing delegated."""
        self.root = Root(consistent_snapshot=self.consistent, expires=_soon())
        for role in ("root", "timestamp", "snapshot", "targets"):
            self.add_key(role)
        self.roles = {
            "targets": Targets(expires=_soon()),
            "snapshot": Snapshot(expires=_soon()),
            "timestamp": Timestamp(expires=_soon()),
        }
        self.publish_root(bump=False)
        self.publish()

    def add_key(self, role: str) -> CryptoSigner:
        """One more key for a top-level role."""
        signer = CryptoSigner.generate_ed25519()
        self.root.add_key(signer.public_key, role)
        self.keys.setdefault(role, []).append(signer)
        return signer

    def rotate(self, role: str) -> list[CryptoSigner]:
        """Another key for a top-level role; returns the old ones."""
        old = self.keys.pop(role)
        for signer in old:
            self.root.revoke_key(signer.public_key.keyid, role)
        self.add_key(role)
        return old

    def publish_root(self, *, bump: bool = True, also: tuple[CryptoSigner, ...] = ()) -> None:
        """Sign root with its keys, and with those it had before."""
        if bump:
            self.root.version += 1
        metadata = Metadata(self.root)
        for signer in (*self.keys["root"], *also):
            metadata.sign(signer, append=True)
        self.roots[self.root.version] = metadata.to_bytes()
        self._write("metadata", f"{self.root.version}.root.json", self.roots[self.root.version])

    def delegate(self, role: str, *paths: str, terminating: bool = False) -> Targets:
        """A delegated role of one key."""
        signer = CryptoSigner.generate_ed25519()
        self.keys[role] = [signer]
        top = self.roles["targets"]
        if top.delegations is None:
            top.delegations = Delegations(keys={}, roles={})
        keyid = signer.public_key.keyid
        top.delegations.keys[keyid] = signer.public_key
        top.delegations.roles[role] = DelegatedRole(
            role, [keyid], 1, terminating=terminating, paths=list(paths)
        )
        top.version += 1
        self.roles[role] = Targets(expires=_soon())
        return self.roles[role]  # type: ignore[no-any-return]

    def add_target(self, role: str, path: str, data: bytes) -> None:
        """A target and its file."""
        target = TargetFile.from_data(path, data, ["sha256"])
        self.roles[role].targets[path] = target
        self.roles[role].version += 1
        folder, slash, name = path.rpartition("/")
        if self.consistent:
            name = f"{hashlib.sha256(data).hexdigest()}.{name}"
        self._write("targets", f"{folder}{slash}{name}", data)

    def publish(self, *, bump: bool = True) -> None:
        """Sign targets roles, then snapshot, then timestamp."""
        snapshot, timestamp = self.roles["snapshot"], self.roles["timestamp"]
        for role in self.roles:
            if role not in ("snapshot", "timestamp"):
                snapshot.meta[f"{role}.json"] = MetaFile(self.roles[role].version)
                self.write_role(role)
        if bump:
            snapshot.version += 1
        self.write_role("snapshot")
        timestamp.snapshot_meta = MetaFile(snapshot.version)
        if bump:
            timestamp.version += 1
        self.write_role("timestamp")

    def write_role(self, role: str) -> None:
        """Sign one role and put it where clients look for it."""
        metadata = Metadata(self.roles[role])
        for signer in self.keys[role]:
            metadata.sign(signer, append=True)
        version = f"{self.roles[role].version}." if self.consistent and role != "timestamp" else ""
        self._write("metadata", f"{version}{quote(role, '')}.json", metadata.to_bytes())

    def _write(self, kind: str, name: str, data: bytes) -> None:
        self.files[f"/{kind}/{name}"] = data


@contextmanager
def serve(repository: Repository) -> Iterator[tuple[str, list[str]]]:
    """The repository on a loopback port: its address, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            # Clients ask for encoded names of roles, which are the names of files: try both.
            data = repository.files.get(self.path, repository.files.get(unquote(self.path)))
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
