"""Adds deltas to a package: what leads from older packages' files to this one's, where that saves enough."""

from __future__ import annotations

import hashlib
import io
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from converter.errors import DeltaRefusedError
from converter.package_folder import file_entry, staged_package
from converter.progress import Progress, Silent
from converter.recipe import shown_path
from edge_runtime.package import open_package
from ota_contract.delta import apply_delta
from ota_contract.errors import ContractError
from ota_contract.manifest import MANIFEST_NAME, Delta, File, FileRole, Release, Variant, dump_release

__all__ = ["LEAST_SAVING_BYTES", "MOST_SHARE", "Attempt", "add_deltas"]

MOST_SHARE = 0.8
"""A delta is kept up to this share of the file it makes; above, it is hardly worth its place on a server."""
LEAST_SAVING_BYTES = 1024
"""What naming a delta in the manifest and asking for it costs, roughly."""

_FOLDER = "deltas"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One file and what a delta to it came to."""

    base_version: str
    path: str
    length_bytes: int
    delta_bytes: int
    kept: bool

    @property
    def share(self) -> float:
        """The delta's part of the file."""
        return self.delta_bytes / self.length_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    base_version: str
    base: Path
    base_sha256: str
    target: File


def add_deltas(
    package: Path, bases: Sequence[Path], *, progress: Progress | None = None
) -> tuple[Release, tuple[Attempt, ...]]:
    """Write deltas from older packages into a package, in place of those it has; returns what it is now.

    Each is applied once before it is kept. The same packages give the same bytes. The package is replaced
    when all of it is done, or not at all.

    Raises:
        PackageError: One of the packages is damaged.
        DeltaRefusedError: A package is of another model, or there are too many deltas for a manifest.
        OutputError: The package cannot be written.
    """
    from converter.deltas.making import make_delta  # noqa: PLC0415 - numpy, which inspecting needs not

    release, _ = open_package(package)
    jobs = list(_jobs(release, bases))
    attempts, deltas = [], []
    with staged_package(package) as staged, progress or Silent() as shown:
        shown.begin(len(jobs))
        _link_all(package, staged, release)
        for job in jobs:
            step = f"{job.target.path} from {job.base_version}"
            shown.started(step)
            begun = time.monotonic()
            base, target = job.base.read_bytes(), (package / job.target.path).read_bytes()
            data = make_delta(base, target)
            _check(data, base, job)
            kept = _is_worth_it(len(data), len(target))
            if kept:
                deltas.append(_write(staged, job, data))
            attempts.append(
                Attempt(
                    base_version=job.base_version,
                    path=job.target.path,
                    length_bytes=len(target),
                    delta_bytes=len(data),
                    kept=kept,
                )
            )
            note = f"{len(data):,} of {len(target):,} bytes" + ("" if kept else ", not worth it")
            shown.finished(step, time.monotonic() - begun, note)
        release = replace(release, deltas=tuple(deltas))
        (staged / MANIFEST_NAME).write_bytes(_dumped(release))
    return release, tuple(attempts)


def _jobs(release: Release, bases: Sequence[Path]) -> Iterator[_Job]:
    """Every file of the release that has a former self with other bytes, each way once."""
    ways = set()
    for folder in bases:
        old, _ = open_package(folder)
        if old.name != release.name:
            raise DeltaRefusedError(
                f"{shown_path(folder)} is a package of {old.name}, not of {release.name}: name an earlier "
                "package of the same model"
            )
        for target, base in _counterparts(release, old):
            way = (base.sha256, target.sha256)
            if base.sha256 != target.sha256 and way not in ways:
                ways.add(way)
                yield _Job(
                    base_version=old.version,
                    base=folder / base.path,
                    base_sha256=base.sha256,
                    target=target,
                )


def _counterparts(release: Release, old: Release) -> Iterator[tuple[File, File]]:
    yield release.golden.file, old.golden.file
    for variant in release.variants:
        for file in variant.files:
            base = _former(variant, file, old)
            if base is not None:
                yield file, base


def _former(variant: Variant, file: File, old: Release) -> File | None:
    """The same variant's file of the same path, else the model file of that variant, else of one like it."""
    same = [other for other in old.variants if other.id == variant.id]
    for other in same:
        for base in other.files:
            if base.path == file.path:
                return base
    alike = [
        other
        for other in old.variants
        if (other.runtime, other.precision) == (variant.runtime, variant.precision)
    ]
    if file.role is FileRole.MODEL:
        for other in (*same, *alike):
            return other.model_file
    return None


def _is_worth_it(delta_bytes: int, target_bytes: int) -> bool:
    return delta_bytes <= MOST_SHARE * target_bytes and delta_bytes + LEAST_SAVING_BYTES <= target_bytes


def _check(data: bytes, base: bytes, job: _Job) -> None:
    """Apply it as a device will: what a publisher signs must be what it says."""
    out = io.BytesIO()
    try:
        apply_delta(io.BytesIO(base), io.BytesIO(data), out, max_bytes=job.target.length_bytes)
    except ContractError as error:
        raise DeltaRefusedError(f"the delta to {job.target.path} does not apply: {error}") from error
    if hashlib.sha256(out.getvalue()).hexdigest() != job.target.sha256:
        raise DeltaRefusedError(f"the delta to {job.target.path} makes another file; nothing was changed")


def _write(staged: Path, job: _Job, data: bytes) -> Delta:
    path = f"{_FOLDER}/{job.target.sha256[:16]}-from-{job.base_sha256[:16]}.delta"
    (staged / _FOLDER).mkdir(exist_ok=True)
    (staged / path).write_bytes(data)
    return Delta(
        file=file_entry(staged, path, FileRole.DELTA),
        base_sha256=job.base_sha256,
        target_sha256=job.target.sha256,
    )


def _dumped(release: Release) -> bytes:
    try:
        return dump_release(release)
    except ContractError as error:
        raise DeltaRefusedError(f"{error}; name fewer earlier packages") from error


def _link_all(package: Path, staged: Path, release: Release) -> None:
    """Everything in the package but its manifest and its old deltas, without a copy where that can be."""
    left_out = {MANIFEST_NAME, *(delta.file.path for delta in release.deltas)}
    for path in sorted(package.rglob("*")):
        inner = path.relative_to(package)
        if path.is_dir() or inner.as_posix() in left_out:
            continue
        target = staged / inner
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, target)
