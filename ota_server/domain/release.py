"""When a release may enter the registry, as rules over what was there before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ota_contract.manifest import Release
from ota_contract.names import ModelName
from ota_contract.policy import ReleaseRef
from ota_server.errors import CounterError, ReleaseRefusedError

__all__ = ["ReleaseRecord", "TargetEntry", "check_counter", "check_targets"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRecord:
    """A published release."""

    name: ModelName
    version: str
    counter: int
    floor: int
    manifest_sha256: str
    published: datetime
    withdrawn: bool = False
    """Not offered to new rollouts any more."""

    @property
    def ref(self) -> ReleaseRef:
        """How a policy names it."""
        return ReleaseRef(version=self.version, counter=self.counter, manifest_sha256=self.manifest_sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEntry:
    """A file as TUF metadata pins it."""

    length_bytes: int
    sha256: str
    custom: str = ""
    """The entry's `custom` and unrecognised fields as canonical JSON, compared but not read."""


def check_counter(release: Release, last: ReleaseRecord | None) -> None:
    """Hold counter and floor of a model's releases monotonic.

    Raises:
        CounterError: The counter is not above the last one, or the floor is below it.
    """
    if last is None:
        return
    if release.counter <= last.counter:
        raise CounterError(
            f"{release.name} {release.version} has counter {release.counter}, but {last.version} already "
            f"has {last.counter}; convert again with a counter of at least {last.counter + 1}"
        )
    if release.floor < last.floor:
        raise CounterError(
            f"{release.name} {release.version} has floor {release.floor}, but {last.version} raised it to "
            f"{last.floor}; a floor never falls"
        )


def check_targets(
    before: Mapping[str, TargetEntry], after: Mapping[str, TargetEntry], *, path: str, entry: TargetEntry
) -> None:
    """Hold a publisher's releases immutable: exactly one new target, the rest as it was.

    Raises:
        ReleaseRefusedError: An earlier release is changed or gone, another one came along, or the new
            target is not the manifest that was sent.
    """
    for old_path, old in before.items():
        if after.get(old_path) != old:
            raise ReleaseRefusedError(f"the metadata changes or drops {old_path}; releases are immutable")
    added = sorted(after.keys() - before.keys())
    if added != [path]:
        raise ReleaseRefusedError(
            f"the metadata adds {', '.join(added) or 'nothing'}; expected exactly {path}"
        )
    found = after[path]
    if (found.length_bytes, found.sha256) != (entry.length_bytes, entry.sha256):
        raise ReleaseRefusedError(f"the metadata pins {path} to other bytes than the manifest sent with it")
