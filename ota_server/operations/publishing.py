"""Publishing: uploads of blobs, and the one step in which a release appears to devices."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ota_contract.errors import ContractError
from ota_contract.manifest import Release, parse_release
from ota_contract.names import blob_path, release_target
from ota_server.domain.access import Principal
from ota_server.domain.release import ReleaseRecord, TargetEntry, check_counter, check_targets
from ota_server.errors import (
    BlobMismatchError,
    QuotaError,
    RefusedError,
    ReleaseExistsError,
    ReleaseRefusedError,
)
from ota_server.operations.ports import Records, Services

__all__ = ["Upload", "append_blob", "publish", "publisher_metadata", "recover", "upload_state"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Where an upload stands."""

    complete: bool
    offset: int
    """Bytes the server holds; an interrupted upload goes on from here."""


def publisher_metadata(services: Services, principal: Principal, publisher: str) -> bytes:
    """The signed metadata a publisher has to build its next release on."""
    principal.require_publisher(publisher)
    return services.repository.publisher_metadata(publisher)


def upload_state(
    services: Services, principal: Principal, publisher: str, sha256: str, length_bytes: int
) -> Upload:
    """Whether a blob has to be uploaded, and from which byte; claims one that is here already.

    Knowing a digest is enough to claim it: blobs are public under their digests anyway.

    Raises:
        QuotaError: The blob would not fit the publisher's quota.
    """
    principal.require_publisher(publisher)
    services.repository.publisher_metadata(publisher)  # unknown publishers store nothing
    blob_path(sha256)
    if _is_here(services, sha256, length_bytes):
        _claim(services, publisher, sha256, length_bytes)
        return Upload(complete=True, offset=length_bytes)
    with services.registry.read() as records:
        _check_quota(services, records, publisher, sha256, length_bytes)
    return Upload(complete=False, offset=services.blobs.offset(publisher, sha256))


def append_blob(
    services: Services,
    principal: Principal,
    publisher: str,
    sha256: str,
    *,
    offset: int,
    length_bytes: int,
    data: bytes,
) -> Upload:
    """Add bytes to an upload; the last ones complete it.

    Raises:
        QuotaError: The blob would not fit the publisher's quota; nothing was kept.
        UploadOffsetError: The upload stands elsewhere; the error carries where.
        BlobMismatchError: The bytes are not those of the digest; the upload was dropped.
    """
    principal.require_publisher(publisher)
    services.repository.publisher_metadata(publisher)
    blob_path(sha256)
    if offset + len(data) > length_bytes:
        raise RefusedError(f"{offset + len(data)} bytes were sent of a blob of {length_bytes}")
    here = _is_here(services, sha256, length_bytes)
    # Before the first byte is kept: uploads side by side, or never finished, must not pass the quota.
    _claim(services, publisher, sha256, length_bytes)
    if here:
        return Upload(complete=True, offset=length_bytes)  # the answer to the last chunk was lost
    try:
        held = services.blobs.append(publisher, sha256, offset, data, length_bytes)
    except BlobMismatchError:
        with services.registry.write() as records:
            records.claims.remove(publisher, sha256)
        raise
    return Upload(complete=held == length_bytes, offset=held)


def publish(
    services: Services, principal: Principal, publisher: str, *, manifest: bytes, metadata: bytes
) -> ReleaseRecord:
    """Check everything a device will check, then let the release appear, all at once.

    Publishing the same release again changes nothing and succeeds: an answer may have been lost.

    Args:
        services: The ports.
        principal: The caller.
        publisher: Whose metadata it is.
        manifest: Untrusted bytes of `release.json`.
        metadata: Untrusted bytes of the publisher's TUF metadata that adds it.

    Raises:
        ReleaseRefusedError: The manifest is malformed, foreign, or its blobs are missing.
        ReleaseExistsError: The version is published with other bytes.
        CounterError: Counter or floor behind the last release.
        MetadataVersionError: Another release was published meanwhile; sign again.
        UntrustedMetadataError: The metadata is not the publisher's.
    """
    principal.require_publisher(publisher)
    release = _parse(manifest)
    if release.name.publisher != publisher:
        raise ReleaseRefusedError(f"the package is {release.name}'s; {publisher} cannot publish it")
    path = release_target(release.name, release.version)
    entry = TargetEntry(length_bytes=len(manifest), sha256=hashlib.sha256(manifest).hexdigest())
    with services.registry.write() as records:
        before = services.repository.targets(publisher)
        if path in before:
            # Visible, and perhaps not indexed: the disk may have failed right behind the publication.
            _index(services, records, publisher)
        existing = records.releases.find(release.name, release.version)
        if existing is not None:
            if existing.manifest_sha256 == entry.sha256:
                return existing
            raise ReleaseExistsError(
                f"{release.name} {release.version} is published already, with other bytes; "
                "releases are immutable, so give this one a new version"
            )
        check_counter(release, next(iter(records.releases.all(release.name)), None))
        _check_blobs(services, records, release)
        after = services.repository.verified_targets(publisher, metadata)
        check_targets(before, after, path=path, entry=entry)
        record = _record(services, release, entry.sha256)
        records.releases.add(record)
        services.repository.publish_release(publisher, metadata, path, manifest)
    return record


def recover(services: Services) -> tuple[ReleaseRecord, ...]:
    """Bring what a crash cut short to its end; returns releases that were visible and not indexed."""
    with services.registry.write() as records:
        services.repository.complete()
        return tuple(
            record
            for publisher in services.repository.publishers()
            for record in _index(services, records, publisher)
        )


def _index(services: Services, records: Records, publisher: str) -> list[ReleaseRecord]:
    """Index what a publisher's metadata names and the database does not know."""
    known = {release_target(record.name, record.version) for record in records.releases.all()}
    found = []
    for path, entry in services.repository.targets(publisher).items():
        if path not in known:
            manifest = services.repository.manifest(path, entry.sha256)
            record = _record(services, _parse(manifest), entry.sha256)
            records.releases.add(record)
            found.append(record)
    return found


def _parse(manifest: bytes) -> Release:
    try:
        return parse_release(manifest)
    except ContractError as error:
        raise ReleaseRefusedError(str(error)) from error


def _record(services: Services, release: Release, manifest_sha256: str) -> ReleaseRecord:
    return ReleaseRecord(
        name=release.name,
        version=release.version,
        counter=release.counter,
        floor=release.floor,
        manifest_sha256=manifest_sha256,
        published=services.clock(),
    )


def _check_blobs(services: Services, records: Records, release: Release) -> None:
    publisher = release.name.publisher
    for file in release.files():
        here = services.blobs.length_bytes(file.sha256)
        if not here == records.claims.length_bytes(publisher, file.sha256) == file.length_bytes:
            raise ReleaseRefusedError(f"blob {file.sha256} ({file.path}) was not uploaded by {publisher}")


def _is_here(services: Services, sha256: str, length_bytes: int) -> bool:
    here = services.blobs.length_bytes(sha256)
    if here not in (None, length_bytes):
        # Else the claim of the true length could be replaced by one of a byte.
        raise RefusedError(f"blob {sha256} is here with {here} bytes; it cannot have {length_bytes}")
    return here is not None


def _check_quota(
    services: Services, records: Records, publisher: str, sha256: str, length_bytes: int
) -> None:
    used = records.claims.total_bytes(publisher) - (records.claims.length_bytes(publisher, sha256) or 0)
    if used + length_bytes > services.quota_bytes:
        raise QuotaError(
            f"{publisher} stores {_mebibytes(used)} of {_mebibytes(services.quota_bytes)}; another "
            f"{_mebibytes(length_bytes)} do not fit. The operator can raise it: ferry serve --quota-mb"
        )


def _mebibytes(length_bytes: int) -> str:
    return f"{length_bytes / 1024**2:.1f} MiB"


def _claim(services: Services, publisher: str, sha256: str, length_bytes: int) -> None:
    with services.registry.read() as records:
        if records.claims.length_bytes(publisher, sha256) == length_bytes:
            return  # every chunk but the first
    with services.registry.write() as records:
        _check_quota(services, records, publisher, sha256, length_bytes)
        records.claims.put(publisher, sha256, length_bytes)
