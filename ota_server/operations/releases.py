"""Looking at what is published, and keeping a release out of new rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ota_contract.names import ModelName, release_target
from ota_server.domain.access import Principal, Role
from ota_server.domain.release import ReleaseRecord
from ota_server.errors import NotFoundError
from ota_server.operations.ports import Records, Services

__all__ = [
    "ModelSummary",
    "find_release",
    "list_models",
    "list_releases",
    "manifest_of",
    "published",
    "withdraw",
]

_READERS = (Role.FLEET_MANAGER, Role.VIEWER, Role.PUBLISHER)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """A model with its newest release."""

    name: ModelName
    latest: str
    releases: int


def list_models(services: Services, principal: Principal) -> Sequence[ModelSummary]:
    """Every model that has a release."""
    principal.require(*_READERS)
    with services.registry.read() as records:
        releases = records.releases.all()
    newest: dict[ModelName, ReleaseRecord] = {}
    counts: dict[ModelName, int] = {}
    for record in releases:
        counts[record.name] = counts.get(record.name, 0) + 1
        if record.name not in newest or newest[record.name].counter < record.counter:
            newest[record.name] = record
    return [
        ModelSummary(name=name, latest=newest[name].version, releases=counts[name]) for name in sorted(newest)
    ]


def list_releases(services: Services, principal: Principal, name: ModelName) -> Sequence[ReleaseRecord]:
    """A model's releases, the newest first.

    Raises:
        NotFoundError: The model has none.
    """
    principal.require(*_READERS)
    with services.registry.read() as records:
        releases = records.releases.all(name)
    if not releases:
        raise NotFoundError(f"there is no model {name}; `ferry model list` shows them")
    return releases


def find_release(services: Services, principal: Principal, name: ModelName, version: str) -> ReleaseRecord:
    """One release.

    Raises:
        NotFoundError: It is not published.
    """
    principal.require(*_READERS)
    with services.registry.read() as records:
        return published(records, name, version)


def manifest_of(services: Services, record: ReleaseRecord) -> bytes:
    """A published release's manifest bytes."""
    return services.repository.manifest(release_target(record.name, record.version), record.manifest_sha256)


def withdraw(services: Services, principal: Principal, name: ModelName, version: str) -> ReleaseRecord:
    """Keep a release out of new rollouts; devices that have it keep it.

    Raises:
        NotFoundError: It is not published.
    """
    principal.require(Role.FLEET_MANAGER, Role.PUBLISHER)
    if principal.role is Role.PUBLISHER:
        principal.require_publisher(name.publisher)
    with services.registry.write() as records:
        published(records, name, version)
        records.releases.withdraw(name, version)
        return published(records, name, version)


def published(records: Records, name: ModelName, version: str) -> ReleaseRecord:
    """A release by name and version, or a refusal that says how to find one."""
    record = records.releases.find(name, version)
    if record is None:
        raise NotFoundError(f"{name} {version} is not published; `ferry release list {name}` shows what is")
    return record
