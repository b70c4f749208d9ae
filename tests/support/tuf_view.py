"""What an independent TUF client makes of a repository: plain python-tuf, without a line of Ferry's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater

from ota_contract.policy import Policy, parse_policy

__all__ = ["TufView", "of_folder", "of_url", "versions"]

_CHUNK_BYTES = 64 * 1024


class _FolderFetcher(FetcherInterface):
    """Reads a published folder as a web server would serve it."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(unquote(urlsplit(url).path))
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DownloadHTTPError(f"no {path}", 404) from error
        yield from (data[start : start + _CHUNK_BYTES] for start in range(0, len(data), _CHUNK_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class TufView:
    """A client with a trust root; its folder remembers what it has seen."""

    folder: Path
    trust_root: Path
    metadata_url: str
    targets_url: str
    fetcher: FetcherInterface | None = None

    def refreshed(self) -> Updater:
        """A client that has just followed the chain from root to targets; raises tuf's errors."""
        (self.folder / "targets").mkdir(parents=True, exist_ok=True)
        updater = Updater(
            metadata_dir=str(self.folder / "metadata"),
            metadata_base_url=self.metadata_url,
            target_dir=str(self.folder / "targets"),
            target_base_url=self.targets_url,
            fetcher=self.fetcher,
            bootstrap=self.trust_root.read_bytes(),
        )
        updater.refresh()
        return updater

    def target(self, path: str) -> bytes | None:
        """A target's verified bytes, or None where no role names it."""
        updater = self.refreshed()
        found = updater.get_targetinfo(path)
        if found is None:
            return None
        into = self.folder / "targets" / path.replace("/", "_")
        return Path(updater.download_target(found, str(into))).read_bytes()

    def policy(self, model: str = "vision/digits") -> Policy | None:
        """A model's policy as signed."""
        found: TargetFile | None = self.refreshed().get_targetinfo(f"rollout/{model}")
        return None if found is None else parse_policy(found.custom)

    def releases(self, *versions: str, model: str = "vision/digits") -> list[str]:
        """Which of these versions a device can see and fetch."""
        return [version for version in versions if self.target(f"rel/{model}/{version}.json") is not None]


def of_folder(data: Path, trust_root: Path, folder: Path) -> TufView:
    """A view of a server's data folder, without a server."""
    return TufView(
        folder=folder,
        trust_root=trust_root,
        metadata_url=f"file://{data}/repository/metadata/",
        targets_url=f"file://{data}/repository/targets/",
        fetcher=_FolderFetcher(),
    )


def of_url(url: str, trust_root: Path, folder: Path) -> TufView:
    """A view over HTTP, with python-tuf's own downloader."""
    return TufView(
        folder=folder,
        trust_root=trust_root,
        metadata_url=f"{url}/metadata/",
        targets_url=f"{url}/targets/",
    )


def versions(data: Path) -> dict[str, int]:
    """The metadata versions a data folder publishes, by role."""
    folder = data / "repository" / "metadata"
    timestamp: Metadata[Timestamp] = Metadata.from_file(str(folder / "timestamp.json"))
    number = timestamp.signed.snapshot_meta.version
    snapshot: Metadata[Snapshot] = Metadata.from_file(str(folder / f"{number}.snapshot.json"))
    found = {name.removesuffix(".json"): meta.version for name, meta in snapshot.signed.meta.items()}
    return {"timestamp": timestamp.signed.version, "snapshot": number, **found}


def read_targets(data: Path, role: str) -> Any:
    """The signed part of a role's current targets metadata."""
    number = versions(data)[role]
    path = data / "repository" / "metadata" / f"{number}.{role}.json"
    metadata: Metadata[Targets] = Metadata.from_file(str(path))
    return metadata.signed
