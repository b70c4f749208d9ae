"""Reads a package folder and trusts nothing in it before its digests match."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edge_runtime.errors import PackageError
from ota_contract.errors import ContractError
from ota_contract.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Release, parse_release

__all__ = ["open_package", "read_manifest"]

_CHUNK_BYTES = 1024 * 1024


def read_manifest(folder: Path) -> tuple[Release, bytes]:
    """The manifest of a package folder, parsed, and its exact bytes.

    Raises:
        PackageError: There is no manifest, or it is not one.
    """
    path = folder / MANIFEST_NAME
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise PackageError(
            f"{folder} is not a package ({error.strerror}: {path.name}); `ferry convert` writes one"
        ) from error
    try:
        return parse_release(data), data
    except ContractError as error:
        raise PackageError(f"{path}: {error}") from error


def open_package(folder: Path) -> tuple[Release, bytes]:
    """The manifest of a package all of whose files are there with the right bytes.

    Raises:
        PackageError: A file is missing or differs; the message names it.
    """
    release, data = read_manifest(folder)
    for file in release.files():
        path = folder / file.path
        try:
            length, digest = path.stat().st_size, _sha256(path)
        except OSError as error:
            raise PackageError(f"{path}: {error.strerror}; convert again") from error
        if (length, digest) != (file.length_bytes, file.sha256):
            raise PackageError(f"{path} is not the file the manifest names; convert again")
    return release, data


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
