"""Puts together what the passes made and found: variants, manifest, golden vectors, report."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from converter.datasets import Dataset, Datasets
from converter.errors import ConverterError, DataError
from converter.intervals import bounded_ppm, ppm
from converter.least_runtime import requirements
from converter.measurements import Measurement
from converter.package_folder import file_entry
from converter.passes.answers import GOLDEN, read_answers
from converter.passes.prepared import prepared
from converter.plans import Planned
from converter.proof.comparison import Comparison
from converter.recipe import Recipe
from converter.routes import Node
from converter.variants import Precision
from converter.verification import Findings, tolerance_for, verdict
from edge_runtime.arrays import to_array
from ota_contract.golden import Vector, dump_golden
from ota_contract.manifest import (
    MANIFEST_NAME,
    Binding,
    File,
    FileRole,
    Golden,
    Latency,
    Metrics,
    Quality,
    Release,
    Runtime,
    Source,
    Tolerance,
    Variant,
    Verification,
    VerificationStatus,
    dump_release,
)

__all__ = [
    "Made",
    "add_variant",
    "bindings",
    "created_at",
    "draft_release",
    "golden_file",
    "judged",
    "lone_package",
    "measured",
    "vocabulary_files",
]

_GOLDEN_PATH = "golden.json"
_HOW_LENGTH = 250
_BUNDLE_SUFFIX = ".mlpackage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The files a pass wrote, and what it said of them."""

    planned: Planned
    folder: Path
    facts: Mapping[str, Any]

    @property
    def node(self) -> Node:
        """What they are."""
        return self.planned.node

    @property
    def runtime(self) -> Runtime:
        """What runs them."""
        runtime = self.node.format.runtime
        if runtime is None:
            raise ConverterError(f"{self.node.id} is a source, not a variant")
        return runtime


def created_at(source: Path, environment: Mapping[str, str]) -> datetime:
    """SOURCE_DATE_EPOCH where set (reproducible-builds.org), else when the source was last written."""
    text = environment.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return datetime.fromtimestamp(int(source.stat().st_mtime), UTC)
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ConverterError(f"SOURCE_DATE_EPOCH {text!r} is not a time in whole seconds") from error


def golden_file(recipe: Recipe, sets: Datasets, reference: Path, package: Path) -> Golden:
    """Write the golden vectors: raw values, prepared tensors, the source's answers."""
    tensors = prepared(recipe, sets.golden)
    outputs = read_answers(reference, GOLDEN)
    vectors = tuple(
        Vector(
            raw={name: to_array(array) for name, array in sets.golden.sample(row).items()},
            tensors={name: to_array(array[row : row + 1]) for name, array in tensors.items()},
            outputs={name: to_array(array[row : row + 1]) for name, array in outputs.items()},
        )
        for row in range(len(sets.golden))
    )
    (package / _GOLDEN_PATH).write_bytes(dump_golden(vectors))
    return Golden(file=file_entry(package, _GOLDEN_PATH, FileRole.GOLDEN), vectors=len(vectors))


def vocabulary_files(recipe: Recipe, package: Path) -> tuple[File, ...]:
    """Copy the vocabularies that tokenizers need into a package.

    Raises:
        DataError: One is not the file any more that the recipe was read with.
    """
    files = []
    for digest, path in sorted(recipe.vocabularies.items()):
        place = f"assets/vocabulary-{digest[:16]}.txt"
        (package / place).parent.mkdir(exist_ok=True)
        shutil.copyfile(path, package / place)
        files.append(file_entry(package, place, FileRole.VOCABULARY))
        if files[-1].sha256 != digest:
            raise DataError(f"{path} was changed while it was being used; convert again")
    return tuple(files)


def add_variant(made: Made, package: Path) -> Variant:
    """Copy a variant's files into a package; nothing is known of its worth yet."""
    folder = package / "variants" / made.planned.id
    shutil.copytree(made.folder, folder)
    files = tuple(model_files(folder, package))
    return Variant(
        id=made.planned.id,
        runtime=made.runtime,
        precision=made.node.precision.value,
        files=files,
        requires=requirements(made.runtime, made.facts, size_bytes=_size(files), resident_bytes=None),
        inputs=bindings(made.facts["inputs"]),
        outputs=bindings(made.facts["outputs"]),
        metrics=Metrics(size_bytes=_size(files)),
        verification=Verification(status=VerificationStatus.NOT_RUN, how="nothing was compared"),
        tolerances=tuple(
            Tolerance(output=name, max_abs=tolerance_for(made.node.precision, None))
            for name in made.facts["outputs"]
        ),
        rank=0,
    )


def draft_release(
    recipe: Recipe,
    variants: Iterable[Variant],
    golden: Golden,
    *,
    assets: tuple[File, ...],
    source_sha256: str,
    created: datetime,
    toolchain: tuple[tuple[str, str], ...],
) -> Release:
    """The manifest around the variants."""
    return Release(
        name=recipe.name,
        version=recipe.version,
        counter=recipe.counter,
        floor=recipe.floor,
        created=created,
        license=recipe.license,
        source=Source(framework=recipe.framework.value, sha256=source_sha256),
        inputs=tuple(plan.tensor for plan in recipe.inputs),
        outputs=recipe.outputs,
        labels=recipe.labels,
        preprocessing=recipe.preprocessing,
        golden=golden,
        variants=tuple(variants),
        toolchain=toolchain,
        assets=assets,
    )


def lone_package(release: Release, variant: Variant, draft: Path, folder: Path) -> None:
    """Write a package of one variant of a draft, with what running and comparing it takes and no more.

    Whatever else the release says is replaced by the same for all; the files are links to the draft's.
    """
    lone = replace(
        release,
        version="0.0.0",
        counter=1,
        floor=1,
        created=datetime.fromtimestamp(0, UTC),
        license="none",
        source=replace(release.source, sha256=hashlib.sha256().hexdigest()),
        variants=(variant,),
        toolchain=(),
    )
    for file in lone.files():
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.hardlink_to(draft / file.path)
        except OSError:  # a file system without links
            shutil.copyfile(draft / file.path, path)
    (folder / MANIFEST_NAME).write_bytes(dump_release(lone))


def judged(
    variant: Variant, findings: Findings, recipe: Recipe, sets: Datasets, *, where: str, isa: str
) -> Variant:
    """The variant with its quality, tolerances and verdict.

    Args:
        variant: As drafted.
        findings: What running it showed.
        recipe: Holds the goal.
        sets: What it was judged on.
        where: The runtime with its version, or what stood in for it.
        isa: The instruction set it ran on.
    """
    if findings.not_run:
        how = _shortened(f"nothing was compared: {where} refuses {findings.not_run}")
        return replace(variant, verification=Verification(status=VerificationStatus.NOT_RUN, how=how))
    precision = Precision(variant.precision)
    why = verdict(findings, precision, max_drop=recipe.goal.max_drop)
    compared = findings.comparison
    how = why or (
        f"{compared.n if compared else 0} evaluation samples and {len(sets.golden)} golden vectors "
        f"in {where}, against the source in {recipe.framework.shown}"
    )
    status = VerificationStatus.FAILED if why else VerificationStatus.PASSED
    worst = max(findings.max_abs.values(), default=None)
    return replace(
        variant,
        metrics=replace(
            variant.metrics,
            quality=None if findings.failure or compared is None else _quality(compared, sets.evaluation),
        ),
        verification=Verification(
            status=status,
            how=_shortened(how),
            host_isa=isa,
            max_abs_error=None if worst is None else float(f"{worst:.3g}"),
        ),
        tolerances=tuple(
            Tolerance(
                output=item.output,
                max_abs=tolerance_for(
                    precision, findings.golden_max_abs[item.output], findings.scale_of(item.output)
                ),
            )
            if item.output in findings.golden_max_abs
            else item
            for item in variant.tolerances
        ),
    )


def measured(variant: Variant, made: Made, measurement: Measurement, *, threads: int, host: str) -> Variant:
    """The variant with its latency and the memory it needs."""
    latency = Latency(
        p50_us=measurement.p50_us,
        p99_us=measurement.p99_us,
        runs=measurement.runs,
        threads=threads,
        host=host,
    )
    return replace(
        variant,
        metrics=replace(variant.metrics, latency=latency),
        requires=requirements(
            made.runtime,
            made.facts,
            size_bytes=variant.metrics.size_bytes,
            resident_bytes=measurement.resident_bytes,
        ),
    )


def _quality(comparison: Comparison, data: Dataset) -> Quality:
    estimate = comparison.quality
    return Quality(
        metric=comparison.metric.value,
        value_ppm=bounded_ppm(estimate.value),
        low_ppm=bounded_ppm(estimate.low),
        high_ppm=bounded_ppm(estimate.high),
        confidence_ppm=ppm(comparison.confidence),
        n=comparison.n,
        dataset_sha256=data.sha256(),
    )


def _shortened(text: str) -> str:
    """One line that a manifest has room for."""
    return " ".join(text.split())[:_HOW_LENGTH]


def model_files(folder: Path, package: Path) -> Iterable[File]:
    """What a pass left in a folder below a package's, as the manifest names it."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        inside = path.relative_to(folder).parts
        bundled = inside[0].endswith(_BUNDLE_SUFFIX)
        part = bundled and inside[1:] != ("Manifest.json",)
        yield file_entry(
            package, path.relative_to(package).as_posix(), FileRole.PART if part else FileRole.MODEL
        )


def bindings(names: Mapping[str, str]) -> tuple[Binding, ...]:
    """The signature's names with the file's own, from a pass's facts."""
    return tuple(Binding(name=name, inner=inner) for name, inner in sorted(names.items()))


def _size(files: Iterable[File]) -> int:
    return sum(file.length_bytes for file in files)
