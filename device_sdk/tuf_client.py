"""python-tuf's client over our transport: the one module that verifies metadata.

It verifies signatures, versions, expiry and delegations as the TUF specification has it, and turns whatever
python-tuf raises into our errors. What a device makes of verified metadata is not decided here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Metadata, Root, TargetFile, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater

from device_sdk.durable import remove_durably
from device_sdk.errors import (
    DeviceError,
    ExpiredMetadataError,
    MissingFileError,
    NetworkError,
    StoreError,
    UntrustedMetadataError,
)
from device_sdk.transport import Answer, Transport
from device_sdk.trust_rules import Facts
from ota_contract.documents import reader_of
from ota_contract.errors import FormatError

__all__ = ["TufClient"]

_MAX_TIMESTAMP_BYTES = 16 * 1024
_ISSUED = "issued"
_TOP_LEVEL = ("root", "timestamp", "snapshot", "targets")
_S = TypeVar("_S", Root, Timestamp, Targets)


class TufClient:
    """A repository's verified metadata, in a folder of this device."""

    def __init__(self, folder: Path, root: bytes, metadata_url: str, transport: Transport) -> None:
        """Fetch and verify nothing yet.

        Args:
            folder: Where trusted metadata lies, under unversioned names.
            root: The root metadata everything is trusted by; a newer one in `folder` goes before it.
            metadata_url: Base of metadata URLs.
            transport: HTTP.
        """
        self._folder = folder
        self._root = root
        self._url = metadata_url
        self._fetcher = _Fetcher(transport)
        self._transport = transport
        self._updater: Updater | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether a refresh has succeeded, and targets can be asked for."""
        return self._updater is not None

    def drop(self) -> None:
        """Have no targets to ask for until the next refresh."""
        self._updater = None

    def probe(self, etag: str) -> bool:
        """One conditional request: whether the timestamp is still the one of this ETag.

        Raises:
            NetworkError: The link or server failed.
        """
        url = f"{self._url}/timestamp.json"
        answer = self._transport.get(url, max_bytes=_MAX_TIMESTAMP_BYTES, etag=etag)
        if answer.status == 304:  # noqa: PLR2004
            return True
        self._fetcher.prepared[url] = answer  # the refresh that follows asks for the same file
        return False

    def refresh(self) -> str:
        """Bring root, timestamp, snapshot and targets up to date; returns the timestamp's ETag.

        Raises:
            NetworkError: The link or server failed.
            UntrustedMetadataError: Verification failed.
            ExpiredMetadataError: It is genuine, and too old.
            StoreError: It cannot be written.
        """
        self._updater = None
        url = f"{self._url}/timestamp.json"
        try:
            updater = Updater(str(self._folder), self._url, fetcher=self._fetcher, bootstrap=self._root)
            updater.refresh()
        except Exception as error:
            raise _translated(error) from error
        finally:
            etag = self._fetcher.etags.pop(url, "")
            self._fetcher.prepared.clear()
        self._updater = updater
        return etag

    def target(self, path: str) -> TargetFile | None:
        """The signed description of a target; None where nobody signed one.

        Raises:
            NetworkError: Metadata it needs could not be fetched.
            UntrustedMetadataError: Verification failed.
        """
        if self._updater is None:
            return None
        try:
            return self._updater.get_targetinfo(path)
        except Exception as error:
            raise _translated(error) from error

    def fetch(self, target: TargetFile, targets_url: str) -> bytes:
        """A target's verified bytes, in memory.

        Raises:
            NetworkError: It could not be fetched.
            UntrustedMetadataError: The bytes are not the signed ones.
        """
        path = target.path
        if self._load("root", Root).consistent_snapshot:
            folder, slash, name = path.rpartition("/")
            path = f"{folder}{slash}{next(iter(target.hashes.values()))}.{name}"
        url = f"{targets_url}/{path}"
        data = self._transport.get(url, max_bytes=target.length).body
        try:
            target.verify_length_and_hashes(data)
        except tuf_errors.LengthOrHashMismatchError as error:
            raise UntrustedMetadataError(f"{url}: the bytes are not the signed ones") from error
        return data

    def is_intact(self, target: TargetFile, file: Path) -> bool:
        """Whether a file has a target's bytes."""
        try:
            with file.open("rb") as stream:
                target.verify_length_and_hashes(stream)
        except (OSError, tuf_errors.LengthOrHashMismatchError):
            return False
        return True

    def facts(self) -> Facts:
        """What the metadata of the last refresh says.

        Raises:
            StoreError: It cannot be read back.
        """
        root, timestamp, targets = (
            self._load("root", Root),
            self._load("timestamp", Timestamp),
            self._load("targets", Targets),
        )
        delegations = targets.delegations
        roles = (delegations.roles or {}) if delegations else {}
        expires = self.expires()
        if expires is None:
            raise StoreError(f"metadata in {self._folder} cannot be read back")
        return Facts(
            versions={
                # A lost root.json would let the keys in that a newer root took out.
                "root": root.version,
                "timestamp": timestamp.version,
                "snapshot": timestamp.snapshot_meta.version,
                "targets": targets.version,
            },
            expires=expires,
            keys={**_keys(root), **{name: _digest(role.keyids) for name, role in roles.items()}},
            issued=_issued(timestamp),
        )

    def root_keys(self) -> tuple[int, dict[str, str]]:
        """Version of the root on disk and who may sign for the top-level roles by it; 0 where none is."""
        try:
            root = self._load("root", Root)
        except StoreError:
            return 0, {}
        return root.version, _keys(root)

    def forget_snapshots(self) -> None:
        """Remove timestamp and snapshot: their keys were rotated (TUF specification 5.3.11).

        Raises:
            StoreError: They cannot be removed.
        """
        for role in ("snapshot", "timestamp"):
            remove_durably(self._folder / f"{role}.json")

    def expires(self) -> datetime | None:
        """When the first of the top-level roles on disk expires; None where one cannot be read."""
        try:
            return min(
                Metadata.from_file(str(self._folder / f"{role}.json")).signed.expires for role in _TOP_LEVEL
            )
        except Exception:  # noqa: BLE001 - torn files of any kind: a full refresh mends them
            return None

    def _load(self, role: str, kind: type[_S]) -> _S:
        """A file python-tuf has verified and written."""
        path = self._folder / f"{role}.json"
        try:
            signed = Metadata.from_file(str(path)).signed
        except Exception as error:
            raise StoreError(f"{path} cannot be read back: {error}") from error
        if not isinstance(signed, kind):
            raise StoreError(f"{path} is {signed.type} metadata")
        return signed


class _Fetcher(FetcherInterface):
    """Lets python-tuf fetch through our transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.prepared: dict[str, Answer] = {}
        self.etags: dict[str, str] = {}

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            if url.endswith("/timestamp.json"):
                answer = self.prepared.pop(url, None)
                if answer is None:
                    answer = self._transport.get(url, max_bytes=_MAX_TIMESTAMP_BYTES)
                self.etags[url] = answer.etag
                yield answer.body
            else:
                yield from self._transport.stream(url)
        except MissingFileError as error:
            # python-tuf takes 403 and 404 for `N+1.root.json` as "no newer root".
            raise tuf_errors.DownloadHTTPError(str(error), error.status) from error


def _keys(root: Root) -> dict[str, str]:
    return {name: _digest(role.keyids) for name, role in root.roles.items() if name in _TOP_LEVEL}


def _digest(keyids: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(keyids)).encode()).hexdigest()


def _issued(timestamp: Timestamp) -> datetime | None:
    fields = reader_of(timestamp.unrecognized_fields, what="timestamp")
    try:
        return fields.instant(_ISSUED) if fields.has(_ISSUED) else None
    except FormatError:
        return None  # not ours to refuse: another repository may mean something else by the word


def _translated(error: Exception) -> DeviceError:
    """Our error for anything python-tuf or its fetcher may raise."""
    known = error if isinstance(error, DeviceError) else error.__cause__
    if isinstance(known, DeviceError):
        return known
    for kind, translate in _TRANSLATIONS:
        if isinstance(error, kind):
            return translate(f"{type(error).__name__}: {error}")
    # ValueError, KeyError, TypeError: bytes that are no metadata at all.
    return UntrustedMetadataError(f"metadata rejected: {type(error).__name__}: {error}")


_TRANSLATIONS: tuple[tuple[type[Exception], Callable[[str], DeviceError]], ...] = (
    # The first that fits decides: expiry and excess are also among the wider classes below them.
    (
        tuf_errors.ExpiredMetadataError,
        lambda text: ExpiredMetadataError(f"the server must sign anew: {text}"),
    ),
    (
        tuf_errors.DownloadLengthMismatchError,
        lambda text: UntrustedMetadataError(f"metadata rejected: {text}"),
    ),
    (tuf_errors.RepositoryError, lambda text: UntrustedMetadataError(f"metadata rejected: {text}")),
    (tuf_errors.DownloadError, NetworkError),
    (OSError, lambda text: StoreError(f"metadata cannot be stored: {text}")),
)
