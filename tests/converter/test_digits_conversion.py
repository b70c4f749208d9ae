"""The digits model, really converted: what the package holds, and that it says the truth."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import GoldenMismatchError, InferenceError
from edge_runtime.golden_check import check_golden
from edge_runtime.loading import load
from edge_runtime.package import open_package
from ota_contract.manifest import FileRole, Release, Runtime, Variant, VerificationStatus
from tests.converter.conftest import Ferry
from tests.converter.recipes import ALL_VARIANTS
from tests.packages import RECIPE, REPOSITORY, digits_model, digits_package

RUN_HERE = ("tflite-fp32", "tflite-int8", "onnx-fp32", "onnx-int8")


@pytest.fixture(scope="module")
def release(package: Path) -> Release:
    return open_package(package)[0]


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_every_variant_is_there(release: Release) -> None:
    assert {variant.id for variant in release.variants} == {"-".join(pair) for pair in ALL_VARIANTS}
    assert {(variant.runtime.value, variant.precision) for variant in release.variants} == set(ALL_VARIANTS)


def test_every_variant_is_verified_and_what_ran_in_its_runtime_is_measured(release: Release) -> None:
    for variant in release.variants:
        assert variant.verification.status is VerificationStatus.PASSED
        assert variant.metrics.quality is not None
        assert variant.verification.host_isa
        assert (variant.metrics.latency is not None) == (variant.id in RUN_HERE)


@pytest.mark.skipif(sys.platform == "darwin", reason="there the real runtime is used")
def test_what_only_the_reference_evaluator_ran_says_so(release: Release) -> None:
    """Nobody may read a proof of Apple's compiler into it."""
    how = release.variant("coreml-fp16").verification.how
    assert how == (
        "540 evaluation samples and 20 golden vectors in the reference evaluator (MIL semantics, rounded "
        "after every operation; not Apple's compiler or hardware), against the source in Keras"
    )
    for variant_id in RUN_HERE:
        assert "reference evaluator" not in release.variant(variant_id).verification.how


@pytest.mark.parametrize("variant_id", RUN_HERE)
def test_the_stated_accuracy_is_what_a_device_gets(
    package: Path, model: Path, release: Release, variant_id: str
) -> None:
    """Counted again here, sample by sample, through the device's own runtime."""
    variant = release.variant(variant_id)
    quality = variant.metrics.quality
    assert quality is not None
    with np.load(model / "evaluation.npz") as archive:
        images, labels = archive["image"], archive["label"]
    loaded = load(release, variant, package)
    answers = [loaded.run({"image": image[None]})["scores"].argmax() for image in images]
    correct = sum(int(answer == label) for answer, label in zip(answers, labels, strict=True))
    assert (quality.n, quality.value_ppm) == (540, round(correct / 540 * 1_000_000))
    assert quality.low_ppm < quality.value_ppm < quality.high_ppm
    assert quality.value_ppm >= 980_000


@pytest.mark.parametrize("variant_id", RUN_HERE)
def test_the_devices_self_test_passes(package: Path, release: Release, variant_id: str) -> None:
    variant = release.variant(variant_id)
    golden = (package / release.golden.file.path).read_bytes()
    assert check_golden(load(release, variant, package), release, variant, golden, folder=package) == 20


def test_a_variant_of_another_training_fails_the_self_test(session: Path, package: Path) -> None:
    """A float's tolerance is wide enough for another CPU, and not for another model."""
    release, _ = open_package(package)
    other = digits_package(session, gain_table=True)
    golden = (package / release.golden.file.path).read_bytes()
    for variant_id in ("tflite-fp32", "onnx-fp32"):
        variant = release.variant(variant_id)
        with pytest.raises(GoldenMismatchError, match="is off by"):
            check_golden(load(release, variant, other), release, variant, golden, folder=package)


@pytest.mark.parametrize("variant_id", RUN_HERE)
@pytest.mark.parametrize("batch", [1, 3])
def test_any_batch_is_taken_and_answered_alike(
    package: Path, model: Path, release: Release, variant_id: str, batch: int
) -> None:
    variant = release.variant(variant_id)
    loaded = load(release, variant, package)
    with np.load(model / "field.npz") as archive:
        images = archive["image"][:batch]
    together = loaded.run({"image": images})["scores"]
    assert together.shape == (batch, 10)
    np.testing.assert_allclose(together.sum(axis=1), 1.0, atol=0.02)
    for row, image in enumerate(images):
        alone = loaded.run({"image": image[None]})["scores"]
        np.testing.assert_allclose(together[row : row + 1], alone, atol=0.01)


def test_integers_made_the_variants_smaller(release: Release) -> None:
    sizes = {variant.id: variant.metrics.size_bytes for variant in release.variants}
    assert sizes["tflite-int8"] < sizes["tflite-fp32"] / 3
    assert sizes["onnx-int8"] < sizes["onnx-fp32"] / 3
    assert sizes["coreml-fp16"] < sizes["tflite-fp32"] * 0.6


def test_ranks_go_by_size(release: Release) -> None:
    sizes = [variant.metrics.size_bytes for variant in release.variants]
    assert sizes == sorted(sizes)
    assert [variant.rank for variant in release.variants] == list(range(5))


def test_normalisation_costs_a_device_nothing(release: Release) -> None:
    (spec,) = release.preprocessing
    assert [step.folded for step in spec.steps] == [True]
    assert release.inputs[0].datatype.value == "UINT8"
    assert release.inputs[0].shape == (-1, 8, 8, 1)


def test_requirements_are_what_a_device_can_check(release: Release) -> None:
    for variant in release.variants:
        apple = variant.runtime is Runtime.COREML
        assert variant.requires.os == (("darwin",) if apple else ())
        assert bool(re.fullmatch(r"\d+\.\d+", variant.requires.runtime_version)) == (not apple)
        assert 16 * 2**20 <= variant.requires.ram_bytes <= 256 * 2**20


def test_an_mlpackage_is_found_by_its_manifest(package: Path, release: Release) -> None:
    variant = release.variant("coreml-fp16")
    assert variant.model_file.path.endswith("digits.mlpackage/Manifest.json")
    roles = Counter(file.role for file in variant.files)
    assert roles == {FileRole.MODEL: 1, FileRole.PART: 2}
    manifest = json.loads((package / variant.model_file.path).read_text())
    assert manifest["rootModelIdentifier"] in manifest["itemInfoEntries"]


def test_nothing_tells_of_this_machine(package: Path, model: Path) -> None:
    for content in (_files(package)["release.json"], _files(package)["report.json"]):
        for secret in (str(REPOSITORY), str(model), str(package), os.path.expanduser("~/")):  # noqa: PTH111
            assert secret.encode() not in content


def test_the_report_says_how_each_variant_came_about(package: Path) -> None:
    report = json.loads((package / "report.json").read_text())
    assert report["source"]["accuracy"]["value_ppm"] > 980_000
    variants = {item["id"]: item for item in report["variants"]}
    assert variants["onnx-int8"]["route"] == ["keras_to_onnx", "onnx_to_onnx_int8"]
    assert variants["tflite-fp32"]["found"]["max_abs"]["scores"] < 1e-4
    found = variants["coreml-fp16"]["found"]
    assert found["agreed"] >= 535
    assert found["max_abs"]["scores"] < 0.02
    assert found["not_run"] == ""
    passes = {item["id"]: item["facts"] for item in report["passes"]}
    for quantized in ("tflite_to_tflite_int8", "onnx_to_onnx_int8"):
        assert passes[quantized]["weighted_integer"] == passes[quantized]["weighted"] == 5


def test_the_same_inputs_give_the_same_bytes(
    ferry: Ferry, package: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    output = tmp_path / "elsewhere"
    arguments = ("--source", model / "digits.keras", "--data", model)
    done = ferry("convert", RECIPE, "-o", output, *arguments, "--json", "--no-cache")
    assert done.code == 0
    assert _files(output) == _files(package)
    summary = json.loads(done.out)
    assert {row["id"] for row in summary["variants"]} == {"-".join(pair) for pair in ALL_VARIANTS}
    assert "[17/17]" in done.err
    assert "evaluate tflite-int8: 0.0 s, known" not in done.err
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_second_conversion_runs_nothing_and_gives_the_same_bytes(
    ferry: Ferry, package: Path, model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "elsewhere"
    done = ferry("convert", RECIPE, "-o", output, "--source", model / "digits.keras", "--data", model)
    assert done.code == 0
    assert _files(output) == _files(package)
    steps = [line for line in done.err.splitlines() if line.startswith("[")]
    assert steps
    assert [line for line in steps if "known from before" not in line] == []
    assert list((tmp_path / "scratch").iterdir()) == []


def test_inspect_prints_what_the_manifest_says(ferry: Ferry, package: Path, release: Release) -> None:
    done = ferry("inspect", package)
    assert done.code == 0
    for variant in release.variants:
        (line,) = [line for line in done.out.splitlines() if re.match(rf"\d +{variant.id} ", line)]
        assert f"{variant.metrics.size_bytes / 1000:.1f} " in line
        quality = variant.metrics.quality
        assert ("n=540" in line) == (quality is not None)
        if quality is not None:
            assert f"{quality.value_ppm / 1e6:.4f} [" in line
        assert variant.verification.status.value.replace("_", " ") in line
    assert "coreml-fp16: 540 evaluation samples and 20 golden vectors in" in done.out


def test_inspect_prints_json(ferry: Ferry, package: Path, release: Release) -> None:
    value = json.loads(ferry("inspect", package, "--json").out)
    assert value["model"] == "vision/digits"
    rows = {row["id"]: row for row in value["variants"]}
    assert rows["coreml-fp16"]["verification"] == "passed"
    for variant in release.variants:
        assert rows[variant.id]["bytes"] == variant.length_bytes


def test_inspect_refuses_a_changed_byte(ferry: Ferry, package: Path, tmp_path: Path) -> None:
    copied = tmp_path / "package"
    for name, content in _files(package).items():
        (copied / name).parent.mkdir(parents=True, exist_ok=True)
        (copied / name).write_bytes(content)
    path = copied / "variants" / "onnx-fp32" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    done = ferry("inspect", copied)
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("model.onnx is not the file the manifest names; convert again\n")


def test_plan_says_how_and_with_what(ferry: Ferry) -> None:
    done = ferry("plan", RECIPE)
    assert done.code == 0
    assert "onnx_to_onnx_int8" in done.out
    rows = {row["variant"]: row for row in json.loads(ferry("plan", RECIPE, "--json").out)}
    assert all(row["installed"] for row in rows.values())
    assert [step["id"] for step in rows["onnx-int8"]["passes"]] == ["keras_to_onnx", "onnx_to_onnx_int8"]
    assert rows["onnx-int8"]["passes"][1]["calibrated"]


@pytest.mark.parametrize("variant_id", RUN_HERE)
def test_a_gain_table_passes_here_and_raises_in_the_field(session: Path, variant_id: str) -> None:
    """The demonstration's bad release: valid by every check, and wrong about the newer camera."""
    package = digits_package(session, gain_table=True)
    release, _ = open_package(package)
    variant: Variant = release.variant(variant_id)
    assert variant.verification.status is VerificationStatus.PASSED
    loaded = load(release, variant, package)
    with np.load(digits_model(session, gain_table=True) / "field.npz") as archive:
        images = archive["image"]
    for image in images:
        if image.max() > 16:
            with pytest.raises(InferenceError, match="out of"):
                loaded.run({"image": image[None]})
        else:
            assert np.isfinite(loaded.run({"image": image[None]})["scores"]).all()
