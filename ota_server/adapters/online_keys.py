"""The keys this server signs with by itself: snapshot, timestamp and one per publisher's rollouts.

`keys.json` says where each one is, as a securesystemslib URI. It is read at each signing: a ceremony may
have switched a key while the server runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Delegations, Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from ota_contract.documents import format_instant
from ota_server.adapters.key_files import open_signer
from ota_server.adapters.metadata_folder import MetadataFolder
from ota_server.domain.expiry import lifetime_of
from ota_server.errors import KeyFileError, SetupError
from ota_server.operations.ports import Clock
from ota_server.settings import Secrets

__all__ = ["KEYS", "OnlineKeys"]

KEYS = "keys.json"
"""Role → key URI, in the data folder."""
_SERIALIZER = JSONSerializer(compact=True)


class OnlineKeys:
    """The online keys of a data folder."""

    def __init__(self, data: Path, clock: Clock, secrets: Secrets) -> None:
        """Open nothing yet.

        Raises:
            SetupError: The folder is not one of `ferry keys init`.
        """
        self._data = data
        self._clock = clock
        self._secrets = secrets
        self.uris()

    def uris(self) -> dict[str, str]:
        """Where each role's key is."""
        path = self._data / KEYS
        try:
            uris = json.loads(path.read_bytes())
            return {str(role): str(uri) for role, uri in uris.items()}
        except (OSError, ValueError, AttributeError) as error:
            raise SetupError(
                f"{path} is not readable ({error}); `ferry keys init DIR --publisher NAME` makes a data "
                "folder in DIR/server"
            ) from error

    def files(self) -> list[Path]:
        """The key files in use that are there."""
        uris = [uri.partition(":") for uri in self.uris().values()]
        paths = [self._data / path for scheme, _, path in uris if scheme == "file2"]
        return [path for path in paths if path.exists()]

    def open_files(self, folder: MetadataFolder) -> None:
        """Open every key that is a file, so that a wrong passphrase is told at the start.

        Raises:
            KeyFileError: One cannot be opened.
        """
        uris = self.uris()
        root, delegations = folder.root().signed, folder.delegations()
        for role in ("snapshot", "timestamp", *(delegations.roles or {})):
            if lifetime_of(role) and uris.get(role, "").startswith("file2:"):
                self._open(role, _key(role, delegations if role.startswith("ro-") else root), uris)

    def sign(
        self,
        metadata: Metadata[Targets] | Metadata[Snapshot] | Metadata[Timestamp],
        role: str,
        delegator: Root | Delegations,
        *,
        uris: Mapping[str, str] | None = None,
    ) -> bytes:
        """Set the expiry, sign, and serialise.

        Args:
            metadata: What is signed; former signatures go.
            role: The online role.
            delegator: Who says which key is the role's.
            uris: Where keys are, if not where `keys.json` says.

        Raises:
            KeyFileError: The key cannot be used.
        """
        lifetime = lifetime_of(role)
        if lifetime is None:
            raise KeyFileError(f"{role} is not signed by a server")
        metadata.signed.expires = (self._clock() + lifetime).replace(microsecond=0)
        key = _key(role, delegator)
        signer = self._open(role, key, uris or self.uris())
        try:
            signature = metadata.sign(signer)
            # A key held elsewhere may be another one than its URI promised; devices must not be first to see.
            key.verify_signature(signature, metadata.signed_bytes)
        except Exception as error:  # whatever a key service raises
            raise KeyFileError(f"the key of {role} does not sign: {error}") from error
        return metadata.to_bytes(_SERIALIZER)

    def sign_visible(
        self,
        folder: MetadataFolder,
        versions: Mapping[str, int],
        root: Root,
        *,
        uris: Mapping[str, str] | None = None,
    ) -> dict[str, bytes]:
        """The next snapshot, naming new versions of roles, and the timestamp that makes it the current one.

        Returns:
            Bytes by file name, in the order in which they have to be written.
        """
        snapshot = folder.snapshot()
        for role, version in versions.items():
            snapshot.signed.meta[f"{role}.json"] = MetaFile(version)
        snapshot.signed.version += 1
        number = snapshot.signed.version
        timestamp = folder.timestamp()
        timestamp.signed.version += 1
        timestamp.signed.snapshot_meta = MetaFile(number)
        # TUF has no time of signing. Devices keep the latest, and see by it that a clock was set back.
        timestamp.signed.unrecognized_fields["issued"] = format_instant(self._clock())
        return {
            f"{number}.snapshot.json": self.sign(snapshot, "snapshot", root, uris=uris),
            "timestamp.json": self.sign(timestamp, "timestamp", root, uris=uris),
        }

    def _open(self, role: str, key: Key, uris: Mapping[str, str]) -> Signer:
        uri = uris.get(role, "")
        try:
            return open_signer(uri, key, self._secrets, base=self._data)
        except KeyFileError as error:
            raise KeyFileError(
                f"the key of {role} ({uri or 'not in ' + KEYS}) cannot be used: {error}"
            ) from error


def _key(role: str, delegator: Root | Delegations) -> Key:
    found = (delegator.roles or {}).get(role)
    if found is None:
        raise KeyFileError(f"nobody has delegated {role}")
    return delegator.keys[found.keyids[0]]
