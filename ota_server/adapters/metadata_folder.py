"""Reading the published metadata: which version of each role devices see now.

Nothing is cached: several processes publish into one folder. Nothing is verified either, because what lies
here was verified before it was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Delegations, Metadata, Root, Snapshot, Targets, Timestamp

from ota_server.errors import RepositoryError

__all__ = ["METADATA", "MetadataFolder"]

METADATA = Path("repository/metadata")
"""In the data folder."""
_Signed = TypeVar("_Signed", Root, Targets, Snapshot, Timestamp)


class MetadataFolder:
    """The metadata of a data folder.

    Every method raises RepositoryError where a file is missing or torn.
    """

    def __init__(self, data: Path) -> None:
        self.path = data / METADATA

    def timestamp(self) -> Metadata[Timestamp]:
        """The current timestamp."""
        return self.parse("timestamp.json", Timestamp)

    def snapshot(self) -> Metadata[Snapshot]:
        """The current snapshot."""
        return self.parse(f"{self.timestamp().signed.snapshot_meta.version}.snapshot.json", Snapshot)

    def root(self) -> Metadata[Root]:
        """The newest root: devices find it by asking for the version after theirs."""
        return self.parse(f"{self._root_version()}.root.json", Root)

    def roots(self) -> Sequence[Metadata[Root]]:
        """Every root there has been, from the first one to the newest."""
        return [self.parse(f"{number}.root.json", Root) for number in range(1, self._root_version() + 1)]

    def targets(self, role: str = "targets") -> Metadata[Targets]:
        """A targets role's current metadata."""
        return self.parse(f"{self.version(role)}.{role}.json", Targets)

    def delegations(self) -> Delegations:
        """Whom the targets role delegates to."""
        delegations = self.targets().signed.delegations
        if delegations is None:
            raise RepositoryError("the targets role delegates to nobody")
        return delegations

    def publishers(self) -> list[str]:
        """Publishers the targets role delegates to."""
        roles = self.delegations().roles or {}
        return sorted(name.removeprefix("pub-") for name in roles if name.startswith("pub-"))

    def version(self, role: str) -> int:
        """The version of a targets role that the snapshot names."""
        meta = self.snapshot().signed.meta.get(f"{role}.json")
        if meta is None:
            raise RepositoryError(f"the snapshot does not name {role}")
        return int(meta.version)

    def parse(self, file: str, kind: type[_Signed]) -> Metadata[_Signed]:
        """One file."""
        try:
            metadata: Metadata[_Signed] = Metadata.from_bytes(self.read(file))
        except TufError as error:
            raise RepositoryError(f"{self.path / file} is damaged: {error}") from error
        if not isinstance(metadata.signed, kind):
            raise RepositoryError(f"{self.path / file} is {metadata.signed.type} metadata")
        return metadata

    def read(self, file: str) -> bytes:
        """One file's bytes."""
        try:
            return (self.path / file).read_bytes()
        except FileNotFoundError as error:
            raise RepositoryError(
                f"{self.path / file} is missing; restore the repository folder from a backup"
            ) from error
        except OSError as error:
            raise RepositoryError(f"{self.path / file}: {error.strerror}") from error

    def _root_version(self) -> int:
        versions = [int(path.name.partition(".")[0]) for path in self.path.glob("*.root.json")]
        return max(versions, default=1)
