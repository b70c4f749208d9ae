"""The publisher's side of TUF: adds one release to its own role's metadata and signs it.

The key never leaves this machine. What the server gives to build on is signed by this very key already,
or it is not built on: a stolen server must not get a signature under anything the publisher did not make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from securesystemslib.exceptions import Error as SecurityError
from securesystemslib.signer import CryptoSigner, Signer, SSlibKey
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, TargetFile, Targets
from tuf.api.serialization import SerializationError
from tuf.api.serialization.json import JSONSerializer

from converter.publishing.errors import ForeignMetadataError, KeyFileError, ReleaseExistsError
from ota_contract.manifest import Release
from ota_contract.names import release_target

__all__ = ["PublisherKey", "add_release", "key_elsewhere", "no_passphrase", "read_key"]

_LIFETIME = timedelta(days=365)
_MAX_KEY_BYTES = 64 * 1024
_SERIALIZER = JSONSerializer(compact=True)


@dataclass(frozen=True, slots=True)
class PublisherKey:
    """A publisher's key, ready to sign."""

    signer: Signer


def no_passphrase(path: Path) -> str:
    """The passphrase of somebody who was given none."""
    raise KeyFileError(
        f"{path} is encrypted; give its passphrase with --passphrase-file or in FERRY_KEY_PASSPHRASE"
    )


def read_key(path: Path, passphrase: Callable[[Path], str] = no_passphrase) -> PublisherKey:
    """Read a key file of `ferry keys init` or `ferry keys new`.

    Args:
        path: The file.
        passphrase: Asked for the passphrase, where the file is encrypted.

    Raises:
        KeyFileError: It is missing, not a PEM private key, or the passphrase does not open it.
    """
    pem = _read(path)
    try:
        return PublisherKey(CryptoSigner(_load(pem, path, passphrase)))
    except (ValueError, TypeError, UnsupportedAlgorithm, SecurityError) as error:
        raise KeyFileError(
            f"{path} is not a PEM private key; the operator gave each publisher one, NAME.pem"
        ) from error


def key_elsewhere(uri: str, public: Path) -> PublisherKey:
    """A key that stays in a KMS, an HSM or Vault, by its securesystemslib URI.

    Args:
        uri: Such as `awskms:alias/vision`; the service's credentials come from the environment.
        public: Its public half, a PEM file.

    Raises:
        KeyFileError: The public half cannot be read, or the key cannot be had.
    """
    pem = _read(public)
    try:
        key = SSlibKey.from_crypto(load_pem_public_key(pem))
    except (ValueError, UnsupportedAlgorithm, SecurityError) as error:
        raise KeyFileError(f"{public} is not a PEM public key") from error
    try:
        return PublisherKey(Signer.from_priv_key_uri(uri, key))
    except Exception as error:  # a signer may raise anything its service does
        raise KeyFileError(f"{uri}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise KeyFileError(
            f"key {path}: {error.strerror}; the operator's `ferry keys init` made it as publishers/NAME.pem"
        ) from error


def _load(pem: bytes, path: Path, passphrase: Callable[[Path], str]) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(pem, None)
    except TypeError:  # what `cryptography` says of an encrypted key
        secret = passphrase(path)
    try:
        return load_pem_private_key(pem, secret.encode())
    except ValueError as error:
        raise KeyFileError(f"the passphrase does not open {path}") from error


def add_release(key: PublisherKey, current: bytes, release: Release, manifest: bytes, now: datetime) -> bytes:
    """The publisher's next metadata: the current one and this release, signed.

    Args:
        key: The publisher's key.
        current: Untrusted bytes of the role's current metadata.
        release: The parsed manifest.
        manifest: Its exact bytes.
        now: The time; the signature is good for a year from it.

    Raises:
        ForeignMetadataError: `current` is not signed with this key.
        ReleaseExistsError: The version is published with other bytes.
    """
    metadata = _verified(key, current)
    path = release_target(release.name, release.version)
    target = TargetFile.from_data(path, manifest, ["sha256"])
    if metadata.signed.targets.get(path, target).hashes != target.hashes:
        raise ReleaseExistsError(
            f"{release.name} {release.version} is published already, with other bytes; releases are "
            "immutable, so convert again with a new version"
        )
    metadata.signed.targets[path] = target
    metadata.signed.version += 1
    metadata.signed.expires = (now + _LIFETIME).replace(microsecond=0)
    try:
        metadata.sign(key.signer)
    except UnsignedMetadataError as error:  # a service that refuses, or holds another key
        raise KeyFileError(f"the key did not sign: {error}") from error
    return metadata.to_bytes(_SERIALIZER)


def _verified(key: PublisherKey, current: bytes) -> Metadata[Targets]:
    public = key.signer.public_key
    try:
        metadata: Metadata[Targets] = Metadata.from_bytes(current)
        if not isinstance(metadata.signed, Targets):
            raise ForeignMetadataError(
                f"the server gave {metadata.signed.type} metadata to sign; nothing was"
            )
        signature = metadata.signatures.get(public.keyid)
        if signature is None:
            raise ForeignMetadataError(
                "the publisher's metadata on the server is signed with another key than the one given; "
                "use the key this publisher was delegated with last"
            )
        public.verify_signature(signature, metadata.signed_bytes)
    except (RepositoryError, SerializationError, SecurityError, ValueError) as error:
        raise ForeignMetadataError(f"the server's metadata cannot be built on: {error}") from error
    return metadata
