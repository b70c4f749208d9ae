"""A device's store: blobs by digest, release folders, and per model which release is in which slot.

    store/
      blobs/<sha256>[.part]           verified files, shared between releases; .part is a download
      models/<publisher>/<model>/
        state.json                    the slots and the update: the one file that switches releases
        state.former.json             what it said before, should it be damaged
        releases/<version>-<digest>/  release.json and the chosen variant's files, linked to blobs
        starts/                       one empty file per start of a process with a release on trial
      reports/, trust/, lock, …       owned by their own modules

Going live, going back and becoming healthy are each one durable replacement of `state.json`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from device_sdk.durable import (
    NO_SPACE,
    claim_folder,
    fsync_directory,
    make_folder,
    open_private,
    read_bounded,
    remove_durably,
    remove_unfinished,
    rename_durably,
    store_errors,
    write_durably,
)
from device_sdk.errors import DiskFullError, StoreError
from device_sdk.records import ModelState, Slot
from device_sdk.state_file import StateFile
from ota_contract.errors import ContractError
from ota_contract.manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    File,
    Release,
    Variant,
    parse_release,
)
from ota_contract.names import ModelName

__all__ = ["Installed", "ModelSlots", "Store", "files_of"]

_SPARE_BYTES = 8 * 1024 * 1024
"""Left free for state, reports and metadata when a release is staged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A release in a slot, ready to be loaded."""

    slot: Slot
    folder: Path
    release: Release
    variant: Variant


class Store:
    """The folder of one device."""

    def __init__(self, root: Path) -> None:
        """Create the folder, or close one that is there, so that this user alone can enter.

        Raises:
            StoreError: It cannot be created, or others can enter it and it is not ours to close.
        """
        self.root = root
        self.blobs = root / "blobs"
        self.wants: dict[ModelName, frozenset[str] | None] = {}
        """By model, digests an update that is not finished waits for; None where that is not known yet."""
        claim_folder(root)
        make_folder(self.blobs)

    def model(self, name: ModelName) -> ModelSlots:
        """The slots of one model."""
        return ModelSlots(self, name)

    def blob(self, sha256: str) -> Path:
        """Where a verified blob lies."""
        return self.blobs / sha256

    def has_blob(self, file: File) -> bool:
        """Whether a file's bytes are here, complete and undamaged; damaged ones are removed."""
        path = self.blob(file.sha256)
        try:
            with path.open("rb") as stream:
                intact = hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
        except OSError:
            return False
        if not intact:
            remove_durably(path)
        return intact

    def part(self, sha256: str) -> Path:
        """Where a blob is downloaded to."""
        return self.blobs / f"{sha256}.part"

    def keep_blob(self, sha256: str) -> None:
        """Turn a verified download into a blob; durable on return."""
        rename_durably(self.part(sha256), self.blob(sha256))

    def check_room(self, needed_bytes: int) -> None:
        """Refuse an update that cannot fit before its first byte is fetched.

        Raises:
            DiskFullError: Less than that and a reserve is free.
        """
        with store_errors(self.root):
            free = shutil.disk_usage(self.root).free
        if free < needed_bytes + _SPARE_BYTES:
            raise DiskFullError(
                f"{self.root} needs {needed_bytes} bytes and {_SPARE_BYTES} in reserve, and has {free} free"
            )

    def has_links(self) -> bool:
        """Whether a file can have two names here, so that a staged release takes no room of its own."""
        probe, second = self.blobs / ".probe.new", self.blobs / ".probe-2.new"
        with store_errors(self.blobs):
            for path in (probe, second):
                path.unlink(missing_ok=True)
            os.close(open_private(probe, os.O_WRONLY | os.O_CREAT))
            try:
                second.hardlink_to(probe)
            except OSError:
                return False
            finally:
                for path in (probe, second):
                    path.unlink(missing_ok=True)
        return True

    def collect_garbage(self, names: Iterable[ModelName]) -> None:
        """Remove what no slot needs and no update waits for.

        That is release folders, blobs, downloads given up, and what was written and never named. Where it
        is not known what a slot or an update needs, all blobs stay.

        Raises:
            StoreError: A record cannot be read, or the file system refuses.
        """
        needed: list[set[str] | None] = []
        for name in names:
            slots = self.model(name)
            slots.remove_unused()
            needed.append(slots.needed())
        waited_for = self._waited_for()
        known = [digests for digests in needed if digests is not None]
        if waited_for is not None and len(known) == len(needed):
            kept = frozenset[str]().union(*known)
            with store_errors(self.blobs):
                for path in self.blobs.iterdir():
                    if path.name not in kept and path.name.partition(".")[0] not in waited_for:
                        path.unlink(missing_ok=True)
        remove_unfinished(self.root)

    def drop_parts(self, keep: Iterable[str] = ()) -> None:
        """Remove unfinished downloads but those named by digest, and those another update waits for."""
        waited_for = self._waited_for()
        if waited_for is None:
            return  # garbage collection comes to it when it is known
        wanted = {f"{sha256}.part" for sha256 in keep}
        with store_errors(self.blobs):
            for path in self.blobs.glob("*.part"):
                if path.name not in wanted and path.name.partition(".")[0] not in waited_for:
                    path.unlink(missing_ok=True)

    def _waited_for(self) -> frozenset[str] | None:
        known = [digests for digests in self.wants.values() if digests is not None]
        return frozenset[str]().union(*known) if len(known) == len(self.wants) else None


class ModelSlots:
    """The slots of one model; the only writer is the process that holds the store's lock."""

    def __init__(self, store: Store, name: ModelName) -> None:
        """Create the model's folder."""
        self._store = store
        self.name = name
        self.root = store.root / "models" / name.publisher / name.model
        self._releases = self.root / "releases"
        self._starts = self.root / "starts"
        self.record = StateFile(self.root)
        self.state_path = self.record.path
        make_folder(self._releases)
        make_folder(self._starts)

    def state(self) -> ModelState:
        """What is in which slot; empty on a new device.

        Raises:
            StoreError: The record cannot be read, nor the one before it.
        """
        return self.record.read()

    def write_state(self, state: ModelState) -> None:
        """Replace the record; durable on return.

        Raises:
            StoreError: It cannot be written, or could not be read again.
        """
        self.record.write(state)

    def folder(self, slot: Slot) -> Path:
        """The release folder of a slot."""
        return self._releases / f"{slot.version}-{slot.manifest_sha256[:16]}"

    def release_folders(self) -> list[Path]:
        """The folders of every staged release."""
        folders = self._releases.iterdir() if self._releases.is_dir() else ()
        return [path for path in folders if path.is_dir()]

    def installed(self, slot: Slot) -> Installed:
        """Read a slot's release.

        Raises:
            StoreError: A file is missing, or has another length than the manifest says.
        """
        folder = self.folder(slot)
        try:
            release, variant = self._manifest(slot)
            for file in files_of(release, variant):
                if (folder / file.path).stat().st_size != file.length_bytes:
                    raise StoreError(f"{folder / file.path} has lost its content")
        except OSError as error:
            raise StoreError(f"{folder}: {error.strerror}: {error.filename}") from error
        except ContractError as error:
            raise StoreError(f"{folder}: {error}") from error
        return Installed(slot=slot, folder=folder, release=release, variant=variant)

    def stage(self, slot: Slot, manifest: bytes, files: Iterable[File]) -> Path:
        """Lay out a release folder from verified blobs; complete and durable on return, or not there.

        Raises:
            DiskFullError: There is no room.
            StoreError: The file system refuses.
        """
        target = self.folder(slot)
        staged = self._releases / f".{target.name}.new"
        shutil.rmtree(staged, ignore_errors=True)
        try:
            if target.exists():
                shutil.rmtree(target)
            make_folder(staged)
            write_durably(staged / MANIFEST_NAME, manifest)
            for file in files:
                path = staged / file.path
                make_folder(path.parent)
                _link(self._store.blob(file.sha256), path)
            for folder, _, _ in os.walk(staged):
                fsync_directory(Path(folder))
            rename_durably(staged, target)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise DiskFullError(f"no room to stage {target.name} in {self._releases}") from error
            raise StoreError(f"{staged}: {error.strerror}: {error.filename}") from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return target

    def needed(self) -> set[str] | None:
        """Digests of what the releases in the slots are made of; None where a manifest cannot be read."""
        digests: set[str] = set()
        for slot in self._slots():
            try:
                release, variant = self._manifest(slot)
            except (OSError, ContractError):
                return None
            digests.update(file.sha256 for file in files_of(release, variant))
        return digests

    def remove_unused(self) -> None:
        """Remove release folders that no slot names."""
        kept = {self.folder(slot) for slot in self._slots()}
        for folder in self.release_folders():
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def note_start(self) -> Path:
        """Record that a process is about to load the release on trial; durable on return."""
        make_folder(self._starts)
        path = self._starts / uuid.uuid4().hex
        write_durably(path, b"")
        return path

    def starts(self) -> int:
        """Starts noted since `forget_starts`."""
        return len(self._start_files())

    def forget_starts(self) -> None:
        """Begin counting anew."""
        for path in self._start_files():
            remove_durably(path)

    def forget_start_of(self, path: Path) -> None:
        """A process that ends in good order did not crash: its start no longer counts."""
        with contextlib.suppress(StoreError):
            remove_durably(path)

    def _manifest(self, slot: Slot) -> tuple[Release, Variant]:
        release = parse_release(read_bounded(self.folder(slot) / MANIFEST_NAME, MAX_MANIFEST_BYTES))
        return release, release.variant(slot.variant_id)

    def _slots(self) -> list[Slot]:
        state = self.state()
        return [slot for slot in (state.live, state.candidate, state.previous) if slot]

    def _start_files(self) -> list[Path]:
        if not self._starts.is_dir():
            return []
        return [path for path in self._starts.iterdir() if not path.name.startswith(".")]


def files_of(release: Release, variant: Variant) -> tuple[File, ...]:
    """What a device needs of a release: its variant's files, vocabularies and golden vectors, each once."""
    files = {file.path: file for file in (*variant.files, *release.assets, release.golden.file)}
    return tuple(files.values())


def _link(blob: Path, path: Path) -> None:
    """Give a blob a second name, or copy it where the file system has no links."""
    try:
        path.hardlink_to(blob)
    except OSError:
        target = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)  # copyfile asks the umask
        with blob.open("rb") as source, os.fdopen(target, "wb") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
