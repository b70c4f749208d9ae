from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from ota_contract.errors import FormatError, UnknownFormatError
from ota_contract.manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    FileRole,
    Release,
    dump_release,
    parse_release,
)
from tests.ota_contract.contract_strategies import releases
from tests.ota_contract.release_samples import sample_json, sample_release

Change = Callable[[dict[str, Any]], None]


def parse(manifest: dict[str, Any]) -> Release:
    return parse_release(json.dumps(manifest).encode())


def put(path: str, value: Any) -> Change:
    """A change that sets the value at a dotted path; a number is an index."""
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]

    def change(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for part in parents:
            place = place[part]
        place[last] = value

    change.__name__ = f"{path}={value!r}"[:60]
    return change


def twice(path: str, /, **changes: Any) -> Change:
    """A change that repeats the first item of a list, with some of its fields changed."""

    def change(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for part in path.split("."):
            place = place[int(part) if part.isdigit() else part]
        place.append({**place[0], **changes})

    change.__name__ = f"twice {path} {changes}"[:60]
    return change


@settings(max_examples=40)
@given(releases())
def test_a_manifest_is_read_back_and_written_the_same(release: Release) -> None:
    data = dump_release(release)
    assert parse_release(data) == release
    assert dump_release(parse_release(data)) == data


def test_the_sample_is_read_back() -> None:
    assert parse(sample_json()) == sample_release()


def test_unknown_keys_are_ignored_at_every_level() -> None:
    def with_news(value: Any) -> Any:
        if isinstance(value, dict):
            return {**{key: with_news(item) for key, item in value.items()}, "of a later version": {"x": [1]}}
        return [with_news(item) for item in value] if isinstance(value, list) else value

    manifest = with_news(sample_json())
    del manifest["toolchain"]["of a later version"]  # a table: its keys are data
    assert parse(manifest) == sample_release()


@pytest.mark.parametrize("format_", ["ferry.release/2", "ferry.release", "ferry.policy/1", ""])
def test_an_unknown_format_is_refused(format_: str) -> None:
    with pytest.raises(UnknownFormatError):
        parse({**sample_json(), "format": format_})


# What is refused, and a part of the sentence that says so. Each entry fails if its check is removed.
CONTRADICTIONS: list[tuple[Change, str]] = [
    (put("floor", 3), "floor 3 is above its counter 2"),
    (put("inputs", []), "inputs must have distinct names and at least one"),
    (put("outputs", []), "outputs must have distinct names and at least one"),
    (twice("inputs"), "inputs must have distinct names"),
    (twice("outputs"), "outputs must have distinct names"),
    (twice("variants"), "variants must have distinct names"),
    (put("preprocessing.0.input", "other"), "preprocessing names an input the signature lacks"),
    (twice("preprocessing"), "preprocessing names an input twice"),
    (put("golden.file.role", "part"), "the golden file's role is not golden"),
    (put("golden.file.path", "variants/onnx-fp32/model.onnx"), "has two contents"),
    (put("golden.file.path", "variants"), "is both a file and a folder"),
    (put("golden.file.path", "variants/onnx-fp32"), "is both a file and a folder"),
    (put("golden.file.path", "variants/onnx-fp32/model.onnx/x"), "is both a file and a folder"),
    (put("golden.file.path", "variants/ONNX-fp32/model.onnx"), "differ only in upper and lower case"),
    (put("golden.file.path", MANIFEST_NAME), "is the manifest's own place"),
    (put("golden.file.path", "Release.json"), "is the manifest's own place"),
    (put("golden.file.path", f"{MANIFEST_NAME}/x"), "is both a file and a folder"),
    (put("variants.0.files.0.role", "part"), "needs exactly one model file"),
    (twice("variants.0.files", path="other"), "needs exactly one model file"),
    (twice("variants.0.files", path="other", role="golden"), "needs exactly one model file, and parts"),
    (twice("variants.0.files", role="part"), "lists a file twice"),
    (put("variants.0.inputs", []), "does not bind every input once"),
    (twice("variants.0.inputs"), "does not bind every input once"),
    (put("variants.0.inputs.0.name", "other"), "does not bind every input once"),
    (put("variants.1.outputs", []), "variant tflite-fp32 does not bind every output once"),
    (twice("variants.0.outputs", inner="x"), "does not bind every output once"),
    (put("variants.0.tolerances.0.output", "other"), "tolerance for an output the signature lacks"),
    (twice("variants.0.tolerances", max_abs=1), "two tolerances for one output"),
    (put("variants.0.tolerances.0.max_abs", -0.1), "a tolerance below zero"),
]


@pytest.mark.parametrize(("change", "why"), CONTRADICTIONS, ids=lambda item: getattr(item, "__name__", None))
def test_a_manifest_that_contradicts_itself_is_refused(change: Change, why: str) -> None:
    manifest = sample_json()
    change(manifest)
    with pytest.raises(FormatError, match=why):
        parse(manifest)


MALFORMED: list[Change] = [
    put("publisher", "../etc"),
    put("model", "a/b"),
    put("version", "1.0"),
    put("version", "1.0.0+build"),
    put("counter", 0),
    put("counter", 2**63),
    put("counter", 1.0),
    put("counter", value=True),
    put("floor", -1),
    put("created", "yesterday"),
    put("license", "x" * 129),
    put("license", "a\nb"),
    put("source", None),
    put("source.sha256", "3" * 63),
    put("inputs.0.datatype", "BYTES"),
    put("inputs.0.shape", [1] * 9),
    put("inputs.0.shape", [-2]),
    put("inputs.0.shape", [2**31]),
    put("inputs.0.shape", [1.5]),
    put("inputs.0.layout", "N" * 9),
    put("labels", ["x"] * 10_001),
    put("labels", ["x" * 129]),
    put("labels", [1]),
    put("preprocessing.0.steps", [{"operation": "resize"}]),
    put("preprocessing.0.steps", [{"operation": "affine", "scale": 1}]),
    put("preprocessing.0.steps", [{"operation": "reshape", "shape": [-1, -1]}]),
    put("preprocessing.0.steps", [{"operation": "cast", "datatype": "FP8"}]),
    put("preprocessing.0.steps", [{"operation": "cast", "datatype": "FP32"}] * 17),
    put("golden.vectors", 0),
    put("golden.file.path", "../golden.json"),
    put("golden.file.path", "/golden.json"),
    put("golden.file.path", "a\\b"),
    put("golden.file.length", -1),
    put("golden.file.sha256", "A" * 64),
    put("golden.file.role", "script"),
    put("variants", []),
    put("variants", {}),
    put("variants", [1]),
    put("variants.0.id", "Onnx"),
    put("variants.0.runtime", "pytorch"),
    put("variants.0.files", []),
    put("variants.0.rank", 33),
    put("variants.0.rank", -1),
    put("variants.0.requires", None),
    put("variants.0.requires.ram_bytes", -1),
    put("variants.0.requires.os", ["x"] * 17),
    put("variants.0.metrics.size_bytes", None),
    put("variants.0.metrics.quality.value_ppm", 1_000_001),
    put("variants.0.metrics.quality.n", 0),
    put("variants.0.metrics.latency.threads", 0),
    put("variants.0.verification.status", "maybe"),
    put("variants.0.verification.max_abs_error", "0"),
    put("variants.0.tolerances.0.max_abs", 10**400),
    put("toolchain", {"a": 1}),
    put("toolchain", {str(index): "x" for index in range(65)}),
    put("toolchain", {"a\nb": "x"}),
]


@pytest.mark.parametrize("change", MALFORMED, ids=lambda change: change.__name__)
def test_a_malformed_manifest_is_refused(change: Change) -> None:
    manifest = sample_json()
    change(manifest)
    with pytest.raises(FormatError, match="release manifest") as refusal:
        parse(manifest)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("key", sorted(sample_json()))
def test_no_part_of_a_manifest_may_be_missing_but_labels_and_toolchain(key: str) -> None:
    manifest = sample_json()
    del manifest[key]
    if key in ("labels", "toolchain"):
        parse(manifest)
    else:
        with pytest.raises(FormatError, match=key):
            parse(manifest)


def test_a_manifest_is_bounded_in_bytes() -> None:
    data = dump_release(sample_release())
    parse_release(data + b" " * (MAX_MANIFEST_BYTES - len(data)))
    with pytest.raises(FormatError, match="at most"):
        parse_release(data + b" " * (MAX_MANIFEST_BYTES + 1 - len(data)))


def test_what_a_device_would_refuse_is_not_written() -> None:
    with pytest.raises(FormatError, match="floor"):
        dump_release(replace(sample_release(), floor=9))


def test_files_shared_by_variants_are_one_content() -> None:
    """Two variants may share a blob under one path, as long as it is the same blob."""
    manifest = sample_json()
    shared = {"path": "shared.bin", "length": 7, "sha256": "5" * 64, "role": "part"}
    for variant in manifest["variants"]:
        variant["files"].append(dict(shared))
    assert len(list(parse(manifest).files())) == 5
    manifest["variants"][1]["files"][1]["length"] = 8
    with pytest.raises(FormatError, match=r"shared\.bin has two contents"):
        parse(manifest)


def test_a_variant_is_found_by_its_id() -> None:
    release = sample_release()
    assert release.variant("tflite-fp32") is release.variants[1]
    with pytest.raises(FormatError, match="has no variant 'x'"):
        release.variant("x")


def test_the_model_file_is_the_one_of_that_role() -> None:
    variant = sample_release().variants[0]
    part = replace(variant.files[0], path="a", role=FileRole.PART, length_bytes=1)
    variant = replace(variant, files=(part, *variant.files))
    assert variant.model_file.path == "variants/onnx-fp32/model.onnx"
    assert variant.length_bytes == 1235
