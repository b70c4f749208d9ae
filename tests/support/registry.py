"""A server's operations without HTTP: for tests that kill it, run two of it, or fail its disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from converter.publishing.signing import add_release, read_key
from edge_runtime.package import open_package
from ota_contract.manifest import Release
from ota_server.adapters.keys import Threshold, init_keys
from ota_server.adapters.registry import SqlRegistry
from ota_server.app import create_app
from ota_server.domain.access import Principal, Role
from ota_server.domain.release import ReleaseRecord
from ota_server.operations import publishing
from ota_server.operations.ports import Clock, Services
from ota_server.settings import GIBIBYTE, Settings
from tests.support.fleet import Clock as HandClock
from tests.support.tiny import TinyRelease, write_package
from tests.support.tuf_view import TufView, of_folder

__all__ = ["MANAGER", "Bench", "close", "make_bench", "principal"]

MANAGER = Principal(name="alice", role=Role.FLEET_MANAGER)


def close(services: Services) -> None:
    """End a server's hold on its database."""
    if not isinstance(services.registry, SqlRegistry):
        raise TypeError(services.registry)
    services.registry.close()


def principal(publisher: str) -> Principal:
    """A publisher's token."""
    return Principal(name=f"{publisher}-ci", role=Role.PUBLISHER, publisher=publisher)


@dataclass(slots=True, kw_only=True)
class Bench:
    """A data folder, and as many servers on it as a test opens."""

    root: Path
    clock: Clock

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.root / "keys" / "server"

    def open(self, *, quota_bytes: int = GIBIBYTE, poll_interval_s: int = 1) -> Services:
        """What a start of `ferry serve` does, recovery included, up to the listening."""
        settings = Settings(
            data=self.data, tick_s=0, quota_bytes=quota_bytes, poll_interval_s=poll_interval_s
        )
        services: Services = create_app(settings, clock=self.clock).state.services
        return services

    def view(self, name: str = "client") -> TufView:
        """A device's view, reading the folder."""
        return of_folder(self.data, self.root / "keys" / "root.json", self.root / "views" / name)

    def package(self, tiny: TinyRelease) -> Path:
        """Write a package."""
        folder = self.root / "packages" / tiny.model / tiny.version
        write_package(folder, tiny)
        return folder

    def upload(self, services: Services, folder: Path) -> Release:
        """Bring a package's blobs."""
        release, _ = open_package(folder)
        publisher = release.name.publisher
        for file in release.files():
            publishing.append_blob(
                services,
                principal(publisher),
                publisher,
                file.sha256,
                offset=0,
                length_bytes=file.length_bytes,
                data=(folder / file.path).read_bytes(),
            )
        return release

    def sign(self, services: Services, folder: Path) -> tuple[str, bytes, bytes]:
        """Sign a package on top of the current metadata: (publisher, manifest, metadata)."""
        release, manifest = open_package(folder)
        publisher = release.name.publisher
        key = read_key(self.root / "keys" / "publishers" / f"{publisher}.pem")
        current = services.repository.publisher_metadata(publisher)
        return publisher, manifest, add_release(key, current, release, manifest, self.clock())

    def hand_over(self, services: Services, folder: Path) -> ReleaseRecord:
        """Sign and publish a package whose blobs are there."""
        publisher, manifest, metadata = self.sign(services, folder)
        return publishing.publish(
            services, principal(publisher), publisher, manifest=manifest, metadata=metadata
        )

    def publish(self, services: Services, tiny: TinyRelease) -> ReleaseRecord:
        """All of it."""
        folder = self.package(tiny)
        self.upload(services, folder)
        return self.hand_over(services, folder)


def make_bench(root: Path, *publishers: str, clock: Clock | None = None) -> Bench:
    """Make keys in `root/keys`."""
    clock = clock or HandClock()
    one = Threshold(needed=1, keys=1)
    init_keys(root / "keys", publishers or ("vision",), root=one, targets=one, now=clock())
    return Bench(root=root, clock=clock)
