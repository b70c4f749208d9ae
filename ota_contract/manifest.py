"""The release manifest, `release.json`: what a release is, and what each variant needs and is worth.

The converter writes it, the publisher signs it as a TUF target, the server checks it, the device obeys
it. `docs/release-format.md` is its prose, with byte examples. Fractions of quality are integers in
parts per million, durations integers in microseconds: equal manifests are equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from ota_contract.documents import Reader, canonical_json, format_instant, read_document
from ota_contract.errors import FormatError, InvalidNameError
from ota_contract.names import ModelName, Version, check_name
from ota_contract.package_files import (
    Delta,
    File,
    FileRole,
    Pieces,
    delta_from,
    delta_to_json,
    file_from,
    file_to_json,
)
from ota_contract.preprocessing import InputSpec, check_specs, input_spec_from, input_spec_to_json
from ota_contract.preprocessing_steps import MAX_VOCABULARY_BYTES
from ota_contract.tensors import Tensor, tensor_from, tensor_to_json

__all__ = [
    "FORMAT",
    "MANIFEST_NAME",
    "MAX_MANIFEST_BYTES",
    "MILLION",
    "Binding",
    "Delta",
    "File",
    "FileRole",
    "Golden",
    "Latency",
    "Metrics",
    "Pieces",
    "Quality",
    "Release",
    "Requirements",
    "Runtime",
    "Source",
    "Tolerance",
    "Variant",
    "Verification",
    "VerificationStatus",
    "dump_release",
    "parse_release",
]

FORMAT = "ferry.release/1"
MANIFEST_NAME = "release.json"
"""The manifest's file name at the root of a package."""
MAX_MANIFEST_BYTES = 512 * 1024
MILLION = 1_000_000

_MAX_VARIANTS = 32
_MAX_FILES = 64
_MAX_TENSORS = 64
_MAX_LABELS = 10_000
_MAX_DELTAS = 256
_MAX_ASSETS = 16


class Runtime(Enum):
    """A program that runs one kind of model file."""

    TFLITE = "tflite"
    ONNX = "onnx"
    COREML = "coreml"


class VerificationStatus(Enum):
    """Whether a variant was compared with its source; what did not run is never `passed`."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not_run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a device must have to run a variant; empty means anything."""

    runtime_version: str = ""
    """Least version of the runtime, as dotted numbers."""
    os: tuple[str, ...] = ()
    arch: tuple[str, ...] = ()
    accelerator: str = ""
    ram_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """How a tensor of the signature is named inside a variant's own file."""

    name: str
    inner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """A quality metric with its confidence interval, each in parts per million."""

    metric: str
    value_ppm: int
    low_ppm: int
    high_ppm: int
    confidence_ppm: int
    n: int
    dataset_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Time of one inference at batch 1 on the named host."""

    p50_us: int
    p99_us: int
    runs: int
    threads: int
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What a variant is worth; None where it could not be measured here."""

    size_bytes: int
    quality: Quality | None = None
    latency: Latency | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The comparison of a variant with its source model."""

    status: VerificationStatus
    how: str
    """What was run, or why nothing was."""
    host_isa: str = ""
    max_abs_error: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far an output may lie from its golden value on a device, as a greatest absolute difference."""

    output: str
    max_abs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One file set for one runtime and precision."""

    id: str
    runtime: Runtime
    precision: str
    files: tuple[File, ...]
    requires: Requirements
    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]
    metrics: Metrics
    verification: Verification
    tolerances: tuple[Tolerance, ...]
    rank: int
    """Order of preference among variants a device can run; 0 first."""

    @property
    def length_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(file.length_bytes for file in self.files)

    @property
    def model_file(self) -> File:
        """The file the runtime opens (for an mlpackage, its Manifest.json)."""
        return next(file for file in self.files if file.role is FileRole.MODEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """The golden vectors' file and how many vectors it holds."""

    file: File
    vectors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The model the release was converted from."""

    framework: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release manifest."""

    name: ModelName
    version: str
    counter: int
    """Grows with every release of the model; the order rollback protection goes by."""
    floor: int
    """Least counter a device may still run once it has seen this release."""
    created: datetime
    license: str
    source: Source
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    labels: tuple[str, ...]
    preprocessing: tuple[InputSpec, ...]
    golden: Golden
    variants: tuple[Variant, ...]
    toolchain: tuple[tuple[str, str], ...]
    """Names and versions of what made the package, sorted."""
    deltas: tuple[Delta, ...] = ()
    """Shorter ways to some of the files, for devices that hold an earlier release's."""
    assets: tuple[File, ...] = ()
    """Vocabularies: what preprocessing needs, whichever variant runs."""

    @property
    def raw_inputs(self) -> tuple[Tensor, ...]:
        """What an app gives: raw values, and the inputs that no preprocessing makes."""
        made = {name for spec in self.preprocessing for name in spec.produces}
        raw = (
            Tensor(name=spec.input, datatype=spec.raw_datatype, shape=spec.raw_shape)
            for spec in self.preprocessing
        )
        return (*raw, *(tensor for tensor in self.inputs if tensor.name not in made))

    def files(self) -> Iterator[File]:
        """Every file of the release; one shared by several variants is repeated."""
        yield from _files_to_run(self)
        for delta in self.deltas:
            yield delta.file

    def variant(self, variant_id: str) -> Variant:
        """The variant of that id.

        Raises:
            FormatError: There is none.
        """
        for variant in self.variants:
            if variant.id == variant_id:
                return variant
        raise FormatError(f"{self.name} {self.version} has no variant {variant_id!r}")


def parse_release(data: bytes) -> Release:
    """Parse a manifest from untrusted bytes.

    Raises:
        UnknownFormatError: Written in a newer or foreign format.
        FormatError: Malformed, out of bounds, or contradicting itself.
    """
    reader = read_document(data, what="release manifest", format_=FORMAT, max_bytes=MAX_MANIFEST_BYTES)
    try:
        release = _release_from(reader)
    except InvalidNameError as error:
        raise FormatError(f"release manifest: {error}") from error
    _check_consistency(release)
    return release


def dump_release(release: Release) -> bytes:
    """Serialise a manifest; `parse_release` gives it back.

    Raises:
        FormatError: A device would refuse it.
    """
    data = canonical_json(_release_to_json(release))
    parse_release(data)
    return data


def _release_from(reader: Reader) -> Release:
    source = reader.object("source")
    golden = reader.object("golden")
    floor = reader.integer("floor")
    return Release(
        name=ModelName(reader.text("publisher"), reader.text("model")),
        version=str(Version.parse(reader.text("version"))),
        counter=reader.integer("counter", low=1),
        floor=floor,
        created=reader.instant("created"),
        license=reader.text("license", max_length=128),
        source=Source(framework=source.text("framework"), sha256=source.sha256("sha256")),
        inputs=tuple(map(tensor_from, reader.objects("inputs", max_items=_MAX_TENSORS))),
        outputs=tuple(map(tensor_from, reader.objects("outputs", max_items=_MAX_TENSORS))),
        labels=reader.texts("labels", max_items=_MAX_LABELS, max_length=128),
        preprocessing=tuple(map(input_spec_from, reader.objects("preprocessing", max_items=_MAX_TENSORS))),
        golden=Golden(file=file_from(golden.object("file")), vectors=golden.integer("vectors", low=1)),
        variants=tuple(map(_variant_from, reader.objects("variants", max_items=_MAX_VARIANTS, min_items=1))),
        toolchain=tuple(
            (name, value.text("value"))
            for name, value in sorted(reader.entries("toolchain", max_items=64).items())
        ),
        deltas=tuple(map(delta_from, reader.objects("deltas", max_items=_MAX_DELTAS)))
        if reader.has("deltas")
        else (),
        assets=tuple(map(file_from, reader.objects("assets", max_items=_MAX_ASSETS)))
        if reader.has("assets")
        else (),
    )


def _variant_from(reader: Reader) -> Variant:
    requires = reader.object("requires")
    return Variant(
        id=check_name(reader.text("id"), what="variant"),
        runtime=reader.member("runtime", Runtime),
        precision=reader.text("precision", max_length=32),
        files=tuple(map(file_from, reader.objects("files", max_items=_MAX_FILES, min_items=1))),
        requires=Requirements(
            runtime_version=requires.text("runtime_version", max_length=32, default=""),
            os=requires.texts("os", max_items=16, max_length=32),
            arch=requires.texts("arch", max_items=16, max_length=32),
            accelerator=requires.text("accelerator", max_length=64, default=""),
            ram_bytes=requires.integer("ram_bytes", default=0),
        ),
        inputs=tuple(map(_binding_from, reader.objects("inputs", max_items=_MAX_TENSORS))),
        outputs=tuple(map(_binding_from, reader.objects("outputs", max_items=_MAX_TENSORS))),
        metrics=_metrics_from(reader.object("metrics")),
        verification=_verification_from(reader.object("verification")),
        tolerances=tuple(
            Tolerance(output=item.text("output", max_length=64), max_abs=item.number("max_abs"))
            for item in reader.objects("tolerances", max_items=_MAX_TENSORS)
        ),
        rank=reader.integer("rank", high=_MAX_VARIANTS),
    )


def _binding_from(reader: Reader) -> Binding:
    return Binding(name=reader.text("name", max_length=64), inner=reader.text("inner"))


def _metrics_from(reader: Reader) -> Metrics:
    return Metrics(
        size_bytes=reader.integer("size_bytes"),
        quality=reader.optional("quality", _quality_from),
        latency=reader.optional("latency", _latency_from),
    )


def _quality_from(reader: Reader) -> Quality:
    return Quality(
        metric=reader.text("metric", max_length=64),
        value_ppm=reader.integer("value_ppm", low=-MILLION, high=MILLION),
        low_ppm=reader.integer("low_ppm", low=-MILLION, high=MILLION),
        high_ppm=reader.integer("high_ppm", low=-MILLION, high=MILLION),
        confidence_ppm=reader.integer("confidence_ppm", high=MILLION),
        n=reader.integer("n", low=1),
        dataset_sha256=reader.sha256("dataset_sha256"),
    )


def _latency_from(reader: Reader) -> Latency:
    return Latency(
        p50_us=reader.integer("p50_us"),
        p99_us=reader.integer("p99_us"),
        runs=reader.integer("runs", low=1),
        threads=reader.integer("threads", low=1, high=1024),
        host=reader.text("host"),
    )


def _verification_from(reader: Reader) -> Verification:
    return Verification(
        status=reader.member("status", VerificationStatus),
        how=reader.text("how"),
        host_isa=reader.text("host_isa", default=""),
        max_abs_error=reader.number("max_abs_error") if reader.has("max_abs_error") else None,
    )


def _check_consistency(release: Release) -> None:
    """Refuse a manifest that contradicts itself; a device must not have to choose what to believe."""
    what = f"release manifest of {release.name} {release.version}"
    if release.floor > release.counter:
        raise FormatError(f"{what}: floor {release.floor} is above its counter {release.counter}")
    _check_distinct(f"{what}: inputs", [tensor.name for tensor in release.inputs])
    _check_distinct(f"{what}: outputs", [tensor.name for tensor in release.outputs])
    _check_distinct(f"{what}: variants", [variant.id for variant in release.variants])
    _check_assets(what, release)
    if release.golden.file.role is not FileRole.GOLDEN:
        raise FormatError(f"{what}: the golden file's role is not {FileRole.GOLDEN.value}")
    _check_paths(what, release)
    _check_deltas(what, release)
    for variant in release.variants:
        _check_variant(f"{what}: variant {variant.id}", variant, release)


def _check_assets(what: str, release: Release) -> None:
    for asset in release.assets:
        if asset.role is not FileRole.VOCABULARY:
            raise FormatError(f"{what}: asset {asset.path} has the role {asset.role.value}")
        if asset.length_bytes > MAX_VOCABULARY_BYTES:
            raise FormatError(f"{what}: asset {asset.path} is longer than {MAX_VOCABULARY_BYTES} bytes")
    try:
        check_specs(release.preprocessing, release.inputs, (asset.sha256 for asset in release.assets))
    except FormatError as error:
        raise FormatError(f"{what}: {error}") from error


def _check_distinct(what: str, names: list[str]) -> None:
    if not names or len(set(names)) != len(names):
        raise FormatError(f"{what} must have distinct names and at least one, got {names}")


def _check_paths(what: str, release: Release) -> None:
    contents: dict[str, tuple[str, int]] = {}
    for file in release.files():
        content = (file.sha256, file.length_bytes)
        if contents.setdefault(file.path, content) != content:
            raise FormatError(f"{what}: {file.path} has two contents")
    # Some devices' file systems take A and a for one name, and would keep the last one written.
    folded = {path.casefold(): path for path in contents}
    if len(folded) != len(contents):
        raise FormatError(f"{what}: two paths differ only in upper and lower case")
    folders = {folder for path in folded for folder in _folders_above(path)}
    both = folders & {MANIFEST_NAME, *folded}
    if both:
        raise FormatError(f"{what}: {min(both)} is both a file and a folder")
    if MANIFEST_NAME in folded:
        raise FormatError(f"{what}: {folded[MANIFEST_NAME]} is the manifest's own place")


def _folders_above(path: str) -> Iterator[str]:
    segments = path.split("/")
    return ("/".join(segments[:depth]) for depth in range(1, len(segments)))


def _check_deltas(what: str, release: Release) -> None:
    lengths = {file.sha256: file.length_bytes for file in _files_to_run(release)}
    ways = [(delta.base_sha256, delta.target_sha256) for delta in release.deltas]
    if len(set(ways)) != len(ways):
        raise FormatError(f"{what}: two deltas make the same file from the same base")
    for delta in release.deltas:
        length = lengths.get(delta.target_sha256)
        if length is None:
            raise FormatError(f"{what}: {delta.file.path} makes a file the release does not have")
        if delta.file.length_bytes >= length:
            raise FormatError(f"{what}: {delta.file.path} is not smaller than the file it makes")


def _files_to_run(release: Release) -> Iterator[File]:
    yield release.golden.file
    yield from release.assets
    for variant in release.variants:
        yield from variant.files


def _check_variant(what: str, variant: Variant, release: Release) -> None:
    inputs = sorted(tensor.name for tensor in release.inputs)
    outputs = sorted(tensor.name for tensor in release.outputs)
    roles = [file.role for file in variant.files]
    if roles.count(FileRole.MODEL) != 1 or not set(roles) <= {FileRole.MODEL, FileRole.PART}:
        raise FormatError(f"{what} needs exactly one model file, and parts beside it")
    if len({file.path for file in variant.files}) != len(variant.files):
        raise FormatError(f"{what} lists a file twice")
    if sorted(binding.name for binding in variant.inputs) != inputs:
        raise FormatError(f"{what} does not bind every input once")
    if sorted(binding.name for binding in variant.outputs) != outputs:
        raise FormatError(f"{what} does not bind every output once")
    tolerated = [tolerance.output for tolerance in variant.tolerances]
    if not set(tolerated) <= set(outputs):
        raise FormatError(f"{what} has a tolerance for an output the signature lacks")
    if len(set(tolerated)) != len(tolerated):
        raise FormatError(f"{what} has two tolerances for one output")
    if any(tolerance.max_abs < 0 for tolerance in variant.tolerances):
        raise FormatError(f"{what} has a tolerance below zero")


def _release_to_json(release: Release) -> dict[str, Any]:
    content: dict[str, Any] = {
        "format": FORMAT,
        "publisher": release.name.publisher,
        "model": release.name.model,
        "version": release.version,
        "counter": release.counter,
        "floor": release.floor,
        "created": format_instant(release.created),
        "license": release.license,
        "source": {"framework": release.source.framework, "sha256": release.source.sha256},
        "inputs": [tensor_to_json(tensor) for tensor in release.inputs],
        "outputs": [tensor_to_json(tensor) for tensor in release.outputs],
        "labels": list(release.labels),
        "preprocessing": [input_spec_to_json(spec) for spec in release.preprocessing],
        "golden": {
            "file": file_to_json(release.golden.file),
            "vectors": release.golden.vectors,
        },
        "variants": [_variant_to_json(variant) for variant in release.variants],
        "toolchain": dict(release.toolchain),
    }
    if release.deltas:
        content["deltas"] = [delta_to_json(delta) for delta in release.deltas]
    if release.assets:
        content["assets"] = [file_to_json(asset) for asset in release.assets]
    return content


def _variant_to_json(variant: Variant) -> dict[str, Any]:
    requires = variant.requires
    verification = variant.verification
    return {
        "id": variant.id,
        "runtime": variant.runtime.value,
        "precision": variant.precision,
        "files": [file_to_json(file) for file in variant.files],
        "requires": {
            "runtime_version": requires.runtime_version,
            "os": list(requires.os),
            "arch": list(requires.arch),
            "accelerator": requires.accelerator,
            "ram_bytes": requires.ram_bytes,
        },
        "inputs": [{"name": item.name, "inner": item.inner} for item in variant.inputs],
        "outputs": [{"name": item.name, "inner": item.inner} for item in variant.outputs],
        "metrics": {
            "size_bytes": variant.metrics.size_bytes,
            "quality": _fields(variant.metrics.quality),
            "latency": _fields(variant.metrics.latency),
        },
        "verification": {
            "status": verification.status.value,
            "how": verification.how,
            "host_isa": verification.host_isa,
            "max_abs_error": verification.max_abs_error,
        },
        "tolerances": [{"output": item.output, "max_abs": item.max_abs} for item in variant.tolerances],
        "rank": variant.rank,
    }


def _fields(value: Quality | Latency | None) -> dict[str, Any] | None:
    if value is None:
        return None
    return {name: getattr(value, name) for name in value.__slots__}
