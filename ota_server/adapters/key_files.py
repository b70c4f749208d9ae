"""Key files and keys held elsewhere: the one place of the server's side that opens a private key.

A key file is a PKCS#8 PEM file, encrypted or not; its public half is a SubjectPublicKeyInfo PEM file, as
OpenSSL and every key management service write it. What is held elsewhere is named by a securesystemslib
URI. A passphrase is asked for only when a file turns out to be encrypted, and appears in no message.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.exceptions import Error as SecurityError
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from ota_server.adapters.files import write_durably
from ota_server.errors import KeyFileError
from ota_server.settings import Secrets

__all__ = [
    "MIN_PASSPHRASE",
    "generate_key",
    "is_encrypted",
    "open_signer",
    "private_pem",
    "public_pem",
    "read_private",
    "read_public",
    "write_key",
]

MIN_PASSPHRASE = 12
"""Characters. OpenSSL's key derivation is a quick one: length has to make up for it."""

_FILE_SCHEME = "file2"
_MAX_KEY_BYTES = 64 * 1024


def generate_key() -> CryptoSigner:
    """A new Ed25519 key, in memory."""
    return CryptoSigner.generate_ed25519()


def private_pem(signer: CryptoSigner, passphrase: str | None) -> bytes:
    """A private key as a file holds it, encrypted where there is a passphrase."""
    if passphrase is None:
        return signer.private_bytes
    if len(passphrase) < MIN_PASSPHRASE:
        raise KeyFileError(f"the passphrase is shorter than {MIN_PASSPHRASE} characters; take a longer one")
    private = load_pem_private_key(signer.private_bytes, None)
    encryption = BestAvailableEncryption(passphrase.encode())
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def public_pem(signer: CryptoSigner) -> bytes:
    """The public half, to hand out."""
    private = load_pem_private_key(signer.private_bytes, None)
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def write_key(path: Path, signer: CryptoSigner, passphrase: str | None) -> None:
    """Write a private key, readable by its owner alone.

    Raises:
        KeyFileError: The passphrase is too short.
        StorageError: The file system refuses.
    """
    write_durably(path, private_pem(signer, passphrase), mode=0o600)


def is_encrypted(path: Path) -> bool:
    """Whether a private key file asks for a passphrase.

    Raises:
        KeyFileError: It is not readable, or no key.
    """
    return _load(_read(path), path, None) is None


def read_private(path: Path, secrets: Secrets) -> CryptoSigner:
    """A private key file's key.

    Raises:
        KeyFileError: It is missing, no PEM private key, or the passphrase is wrong or missing.
    """
    pem = _read(path)
    private = _load(pem, path, None) or _load(pem, path, secrets(str(path)))
    try:
        if private is None:
            raise KeyFileError(f"{path} cannot be decrypted")
        # PEM that came in another form, PKCS#1 or SEC 1, is a key as good as PKCS#8.
        return CryptoSigner(private)
    except (ValueError, SecurityError) as error:
        raise KeyFileError(f"{path}: {error}") from error


def read_public(path: Path) -> SSlibKey:
    """A public key file's key, with the scheme usual for its type.

    Raises:
        KeyFileError: It is missing, or no PEM public key.
    """
    pem = _read(path)
    try:
        return SSlibKey.from_crypto(load_pem_public_key(pem))
    except (ValueError, UnsupportedAlgorithm, SecurityError) as error:
        hint = "; it is the private half, which stays where it is" if b"PRIVATE KEY" in pem else ""
        raise KeyFileError(f"{path} is not a PEM public key{hint}") from error


def open_signer(uri: str, key: Key, secrets: Secrets, *, base: Path) -> Signer:
    """A signer of a key by URI; relative paths of `file2:` begin at `base`.

    Raises:
        KeyFileError: It cannot be had, or is not the private half of `key`.
    """
    scheme, _, path = uri.partition(":")
    if scheme == _FILE_SCHEME:
        found = read_private(base / path, secrets)
        if not isinstance(key, SSlibKey) or found.public_key.keyval != key.keyval:
            raise KeyFileError(f"{base / path} holds another key than {key.keyid[:8]}")
        # Under the id and scheme by which the key is known, whatever the file would make of it.
        return CryptoSigner(load_pem_private_key(found.private_bytes, None), key)
    try:
        return Signer.from_priv_key_uri(uri, key, secrets)
    except KeyFileError:
        raise
    except Exception as error:  # a signer may raise anything its service does
        raise KeyFileError(f"{uri or 'no URI'}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise KeyFileError(f"key {path}: {error.strerror or error}") from error


def _load(pem: bytes, path: Path, passphrase: str | None) -> PrivateKeyTypes | None:
    """The key; None where it is encrypted and no passphrase was given."""
    try:
        return load_pem_private_key(pem, None if passphrase is None else passphrase.encode())
    except TypeError:
        return None
    except (ValueError, UnsupportedAlgorithm) as error:
        if passphrase is not None:
            raise KeyFileError(f"the passphrase does not open {path}") from error
        raise KeyFileError(f"{path} is not a PEM private key") from error
