"""`publish`: check the package, upload what is missing, sign, hand over."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from converter.publishing.client import PublishingClient
from converter.publishing.errors import LoginError, PublishError, PublishRefusedError
from converter.publishing.signing import PublisherKey, add_release
from edge_runtime.package import open_package
from ota_contract.credentials import Credentials, Remembered, credentials_path, parse_remembered, settle
from ota_contract.errors import CredentialsError, FormatError
from ota_contract.manifest import File, Release

__all__ = ["Published", "find_credentials", "publish"]

_SIGNINGS = 3
"""Tries at signing when other releases of the publisher come in between."""
_RACED = "urn:ferry:problem:metadata-version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What was published, and how little had to be sent for it."""

    release: Release
    total_bytes: int
    sent_bytes: int


def find_credentials(server: str | None, token: str | None) -> Credentials:
    """Server and token from options, environment or `ferry login`.

    Raises:
        LoginError: One of them is missing.
    """
    try:
        data = Path(credentials_path(os.environ, Path.home())).read_bytes()
        remembered = parse_remembered(data)
    except FileNotFoundError:
        remembered = Remembered()
    except (OSError, FormatError) as error:
        raise LoginError(f"the remembered login cannot be read ({error}); run `ferry login` again") from error
    try:
        return settle(server, token, os.environ, remembered)
    except CredentialsError as error:
        raise LoginError(str(error)) from error


def publish(
    package: Path,
    credentials: Credentials,
    key: PublisherKey,
    *,
    now: datetime,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Published:
    """Publish a package; once it returns, devices see the release.

    Publishing the same package again sends nothing and succeeds.

    Args:
        package: What `ferry convert` wrote; every digest is checked first.
        credentials: The server and a publisher's token.
        key: The publisher's key; it stays here.
        now: The time.
        progress: Called with (what, bytes done, bytes in all) as the upload goes on.

    Raises:
        PackageError: The package is damaged.
        PublishError: See `converter.publishing.errors`; nothing was published.
    """
    release, manifest = open_package(package)
    client = PublishingClient(credentials, release.name.publisher)
    # Before the first byte goes out: a wrong key or token must not cost an upload.
    metadata = add_release(key, client.metadata(), release, manifest, now)
    files = {file.sha256: file for file in release.files()}
    total = sum(file.length_bytes for file in files.values())
    sent = _upload(client, package, list(files.values()), total, progress)
    for attempt in range(1, _SIGNINGS + 1):
        try:
            client.publish(manifest, metadata)
            break
        except PublishRefusedError as error:
            if error.kind != _RACED or attempt == _SIGNINGS:
                raise
            metadata = add_release(key, client.metadata(), release, manifest, now)
    return Published(release=release, total_bytes=total, sent_bytes=sent)


def _upload(
    client: PublishingClient,
    package: Path,
    files: list[File],
    total: int,
    progress: Callable[[str, int, int], None],
) -> int:
    done = sent = 0
    for file in files:
        state = client.upload_state(file)
        if state.complete:
            done += file.length_bytes
            progress(file.path, done, total)
            continue
        done += state.offset

        def advanced(count: int, path: str = file.path) -> None:
            nonlocal done, sent
            done += count
            sent += count
            progress(path, done, total)

        try:
            client.upload(file, package / file.path, state.offset, advanced)
        except OSError as error:
            raise PublishError(f"{package / file.path}: {error.strerror or error}") from error
    return sent
