"""Changes one byte of what the server hands out, and puts it back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ota_contract.manifest import Release
from ota_contract.names import blob_path

__all__ = ["tampered_blob", "tampered_timestamp"]


@contextmanager
def tampered_blob(data: Path, release: Release) -> Iterator[str]:
    """One bit of a blob every device needs is flipped on the server's disk; yields its digest."""
    sha256 = release.golden.file.sha256
    path = data / "blobs" / blob_path(sha256)
    with _restored(path) as original:
        middle = len(original) // 2
        changed = bytes([original[middle] ^ 1])
        path.write_bytes(original[:middle] + changed + original[middle + 1 :])
        yield sha256


@contextmanager
def tampered_timestamp(data: Path) -> Iterator[None]:
    """The signed timestamp says it is good for a thousand years more."""
    path = data / "repository" / "metadata" / "timestamp.json"
    with _restored(path) as original:
        year = original.index(b'"expires":"2') + len(b'"expires":"')
        path.write_bytes(original[:year] + b"3" + original[year + 1 :])
        yield


@contextmanager
def _restored(path: Path) -> Iterator[bytes]:
    original = path.read_bytes()
    try:
        yield original
    finally:
        path.write_bytes(original)
