"""The reference evaluator as the converter's judge: good, damaged and unknown models."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.assembly import judged
from converter.coreml_reference import evaluator, runtime
from converter.coreml_reference.operations import OPERATIONS
from converter.coreml_reference.runtime import HOW, ReferenceModel
from converter.datasets import load_datasets
from converter.evidence import Evidence
from converter.jobs import Job
from converter.package_folder import file_entry
from converter.passes import evaluate
from converter.passes.answers import EVALUATION, GOLDEN, write_answers
from converter.passes.prepared import prepared
from converter.proof.comparison import Comparison
from converter.recipe import Overrides, load_recipe
from converter.variants import Precision
from converter.verification import Findings, verdict
from edge_runtime.errors import GoldenMismatchError, InferenceError, ModelLoadError
from edge_runtime.golden_check import check_golden
from edge_runtime.loading import load
from edge_runtime.package import open_package
from ota_contract.manifest import MANIFEST_NAME, Release, Variant, VerificationStatus, dump_release
from tests.packages import RECIPE

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="there the real runtime is the judge")

ID = "coreml-fp16"
SPECIFICATION, WEIGHTS = "model.mlmodel", "weight.bin"
SECONDS = 10.0


@pytest.fixture(scope="module")
def release(package: Path) -> Release:
    return open_package(package)[0]


@pytest.fixture(scope="module")
def opened(package: Path, release: Release) -> ReferenceModel:
    return runtime.load(release, release.variant(ID), package, threads=1)


@pytest.fixture(scope="module")
def reference(package: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers to compare with: the ONNX variant's, which are the source's to a millionth."""
    folder = tmp_path_factory.mktemp("reference")
    release = open_package(package)[0]
    onnx = load(release, release.variant("onnx-fp32"), package)
    recipe = load_recipe(RECIPE, _overrides(model))
    sets = load_datasets(recipe)
    for name, data in ((EVALUATION, sets.evaluation), (GOLDEN, sets.golden)):
        write_answers(folder, name, onnx.run(prepared(recipe, data)))
    return folder


def _overrides(model: Path) -> Overrides:
    return Overrides(source=model / "digits.keras", data=model)


@pytest.fixture
def damaged(package: Path, tmp_path: Path) -> Callable[..., Path]:
    """A package one of whose Core ML files is changed, with a manifest that agrees to the change."""

    def damage(name: str, change: Callable[[bytes], bytes]) -> Path:
        folder = Path(shutil.copytree(package, tmp_path / "damaged"))
        release, _ = open_package(folder)
        variant = release.variant(ID)
        files = []
        for file in variant.files:
            path = folder / file.path
            if path.name == name:
                path.write_bytes(change(path.read_bytes()))
            files.append(file_entry(folder, file.path, file.role))
        changed = replace(variant, files=tuple(files))
        others = tuple(changed if each.id == ID else each for each in release.variants)
        (folder / MANIFEST_NAME).write_bytes(dump_release(replace(release, variants=others)))
        return folder

    return damage


def _evaluated(package: Path, model: Path, reference: Path, tmp_path: Path) -> Mapping[str, Any]:
    job = Job(
        name="evaluate",
        folder=tmp_path / "job",
        recipe_path=RECIPE,
        overrides=_overrides(model),
        inputs={"package": package, "reference": reference},
        params={"variant": ID},
    )
    job.out.mkdir(parents=True)
    return evaluate.run(job)


def _findings(facts: Mapping[str, Any], comparison: Comparison | None = None) -> Findings:
    given = {field.name: facts[field.name] for field in fields(Findings) if field.name in facts}
    return Findings(comparison=comparison, **given)


def test_the_digits_answer_as_their_source_within_half_floats(
    package: Path, model: Path, reference: Path, tmp_path: Path
) -> None:
    facts = _evaluated(package, model, reference, tmp_path)
    assert facts["failure"] == ""
    recipe = load_recipe(RECIPE, _overrides(model))
    evidence = Evidence(recipe, load_datasets(recipe).evaluation, reference)
    compared = evidence.compare(tmp_path / "job" / "out")
    assert compared.agreed is not None
    assert compared.agreed >= 538
    assert 1e-5 < facts["max_abs"]["scores"] < 0.01
    assert facts["accelerator"] == "reference evaluator"
    assert verdict(_findings(facts, compared), Precision.FP16, max_drop=0.01) == ""


def test_the_devices_self_test_passes(package: Path, release: Release, opened: ReferenceModel) -> None:
    golden = (package / release.golden.file.path).read_bytes()
    assert check_golden(opened, release, release.variant(ID), golden, folder=package) == 20


def test_the_evaluation_set_takes_seconds(model: Path, opened: ReferenceModel) -> None:
    """A conversion waits for it; it takes about one second where nothing else runs."""
    with np.load(model / "evaluation.npz") as archive:
        images = archive["image"]
    begun = time.process_time()
    first = [opened.run({"image": image[None]})["scores"] for image in images]
    assert len(first) == 540
    assert time.process_time() - begun < SECONDS
    again = [opened.run({"image": image[None]})["scores"] for image in images[:20]]
    for one, other in zip(first, again, strict=False):
        assert one.tobytes() == other.tobytes()


def test_opening_a_package_with_apples_tools_changes_no_signed_byte(package: Path, tmp_path: Path) -> None:
    """coremltools writes the manifest of a package anew whenever it opens one, on devices too."""
    import coremltools  # noqa: PLC0415 - takes seconds

    original = package / "variants" / ID / "digits.mlpackage"
    copy = tmp_path / original.name
    shutil.copytree(original, copy)
    coremltools.models.MLModel(str(copy), skip_model_load=True)
    for path in original.rglob("*"):
        if path.is_file():
            assert (copy / path.relative_to(original)).read_bytes() == path.read_bytes()


def test_a_changed_weight_fails_the_verification(
    damaged: Callable[..., Path], model: Path, reference: Path, tmp_path: Path
) -> None:
    """Four kilobytes of the largest weight turned round, and all digests made to agree."""

    def change(data: bytes) -> bytes:
        middle = len(data) // 2
        return data[: middle - 2048] + data[middle - 2048 : middle + 2048][::-1] + data[middle + 2048 :]

    folder = damaged(WEIGHTS, change)
    facts = _evaluated(folder, model, reference, tmp_path)
    assert verdict(_findings(facts), Precision.FP16, max_drop=0.01) != ""
    release, _ = open_package(folder)
    golden = (folder / release.golden.file.path).read_bytes()
    with pytest.raises((GoldenMismatchError, InferenceError)):
        check_golden(
            runtime.load(release, release.variant(ID), folder, 1),
            release,
            release.variant(ID),
            golden,
            folder=folder,
        )


@pytest.mark.parametrize("name", [SPECIFICATION, WEIGHTS])
def test_a_file_cut_short_fails_the_verification_in_one_line(
    damaged: Callable[..., Path], model: Path, reference: Path, tmp_path: Path, name: str
) -> None:
    folder = damaged(name, lambda data: data[: len(data) // 2])
    facts = _evaluated(folder, model, reference, tmp_path)
    why = verdict(_findings(facts), Precision.FP16, max_drop=0.01)
    assert name in why
    assert "\n" not in why


def test_a_model_with_an_operation_not_known_is_not_run_and_says_why(
    package: Path, model: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {name: compute for name, compute in OPERATIONS.items() if name != "conv"}
    monkeypatch.setattr(evaluator, "OPERATIONS", known)
    facts = _evaluated(package, model, reference, tmp_path)
    assert facts == {"failure": "", "not_run": "conv: not known to the reference evaluator"}
    variant = _judged(package, model, _findings(facts))
    assert variant.verification.status is VerificationStatus.NOT_RUN
    assert variant.verification.how == (
        f"nothing was compared: {HOW} refuses conv: not known to the reference evaluator"
    )
    assert variant.verification.host_isa == ""
    assert variant.metrics.quality is None


def _judged(package: Path, model: Path, findings: Findings) -> Variant:
    release, _ = open_package(package)
    variant = release.variant(ID)
    bare = replace(variant, metrics=replace(variant.metrics, quality=None))
    recipe = load_recipe(RECIPE, _overrides(model))
    return judged(bare, findings, recipe, load_datasets(recipe), where=HOW, isa="x86_64")


def test_a_binding_the_program_lacks_is_refused(package: Path, release: Release) -> None:
    variant = release.variant(ID)
    wrong = replace(variant, outputs=tuple(replace(each, inner="nothing") for each in variant.outputs))
    with pytest.raises(ModelLoadError, match="no tensor named 'nothing'"):
        runtime.load(release, wrong, package, threads=1)


def test_a_picture_must_be_one(opened: ReferenceModel) -> None:
    with pytest.raises(InferenceError, match="one NHWC image"):
        opened.run({"image": np.zeros((2, 8, 8, 1), np.uint8)})
