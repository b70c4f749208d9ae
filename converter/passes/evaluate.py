"""Runs one variant of a draft package as a device would, and keeps its answers beside the source's.

The draft's manifest names the files and bindings; `edge_runtime` loads and runs them. A Core ML variant is
run by the reference evaluator where its own runtime cannot be had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from converter.datasets import Dataset, load_datasets
from converter.errors import UnsupportedOperationError
from converter.jobs import Job
from converter.passes.answers import EVALUATION, GOLDEN, read_answers, write_answers
from converter.passes.placement import placement
from converter.passes.prepared import prepared
from converter.passes.telling import counted
from converter.recipe import Recipe
from converter.running import open_variant
from converter.variants import Precision
from converter.verification import GOLDEN_CEILING, tolerance_for
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.golden_check import check_golden
from edge_runtime.package import open_package
from edge_runtime.port import AnyArray, LoadedModel
from edge_runtime.signature import check_inputs, check_outputs
from ota_contract.errors import FerryError
from ota_contract.manifest import Release, Runtime, Tolerance, Variant
from ota_contract.tensors import DYNAMIC

__all__ = ["BATCH", "run"]

BATCH = 3
"""Besides single samples, a batch of an odd size."""


def run(job: Job) -> Mapping[str, Any]:
    """Write the variant's answers; the facts are the fields of `Findings` that need no metric."""
    package = job.inputs["package"]
    release, _ = open_package(package)
    variant = release.variant(job.params["variant"])
    recipe = job.recipe()
    try:
        return _examine(job, recipe, release, variant)
    except UnsupportedOperationError as error:
        return {"failure": "", "not_run": str(error)}
    except EdgeRuntimeError as error:
        return {"failure": str(error)}


def _examine(job: Job, recipe: Recipe, release: Release, variant: Variant) -> dict[str, Any]:
    package, reference = job.inputs["package"], job.inputs["reference"]
    model = open_variant(release, variant, package)
    sets = load_datasets(recipe)
    outputs = _run_singly(job, model, release, recipe, sets.evaluation)
    write_answers(job.out, EVALUATION, outputs)
    expected = read_answers(reference, EVALUATION)
    golden_outputs = _run_singly(job, model, release, recipe, sets.golden)
    golden_max_abs = _greatest(golden_outputs, read_answers(reference, GOLDEN))
    scale = _magnitudes(expected)
    facts = {
        "scale": scale,
        "max_abs": _greatest(outputs, expected),
        "golden_max_abs": golden_max_abs,
        "batch_max_abs": _batch_difference(model, release, variant, recipe, sets.evaluation, outputs),
        "accelerator": model.accelerator,
        "placement": placement(variant.runtime, package / variant.model_file.path, job.folder / "placed"),
    }
    return {**facts, "failure": _golden_failure(model, release, variant, package, golden_max_abs, scale)}


def _golden_failure(
    model: LoadedModel,
    release: Release,
    variant: Variant,
    package: Path,
    measured: Mapping[str, float],
    scale: Mapping[str, float],
) -> str:
    """The device's own self-test, with the tolerances it will get."""
    precision = Precision(variant.precision)
    if any(value > GOLDEN_CEILING * scale[name] for name, value in measured.items()):
        return ""  # the verdict says so, and better
    tolerances = tuple(
        Tolerance(output=name, max_abs=tolerance_for(precision, value, scale[name]))
        for name, value in measured.items()
    )
    golden = (package / release.golden.file.path).read_bytes()
    try:
        check_golden(model, release, replace(variant, tolerances=tolerances), golden, folder=package)
    except FerryError as error:
        return str(error)
    return ""


def _run_singly(
    job: Job, model: LoadedModel, release: Release, recipe: Recipe, data: Dataset
) -> dict[str, AnyArray]:
    tensors = prepared(recipe, data)
    rows: list[dict[str, AnyArray]] = []
    for row in counted(job, range(len(data)), total=len(data), what=f"{data.name} samples"):
        inputs = {name: array[row : row + 1] for name, array in tensors.items()}
        check_inputs(release.inputs, inputs)
        outputs = model.run(inputs)
        check_outputs(release.outputs, outputs)
        rows.append(outputs)
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _batch_difference(
    model: LoadedModel,
    release: Release,
    variant: Variant,
    recipe: Recipe,
    data: Dataset,
    alone: Mapping[str, AnyArray],
) -> float:
    if any(tensor.shape[0] != DYNAMIC for tensor in release.inputs) or len(data) < BATCH:
        return 0.0
    if variant.runtime is Runtime.COREML:  # takes one image at a time
        return 0.0
    inputs = {name: array[:BATCH] for name, array in prepared(recipe, data).items()}
    outputs = model.run(inputs)
    check_outputs(release.outputs, outputs)
    return max(_greatest(outputs, {name: array[:BATCH] for name, array in alone.items()}).values())


def _magnitudes(answers: Mapping[str, AnyArray]) -> dict[str, float]:
    """By output, the greatest size of a number in it, at least 1: what differences are relative to."""
    return {name: max(1.0, float(np.abs(array).max(initial=0.0))) for name, array in answers.items()}


def _greatest(got: Mapping[str, AnyArray], expected: Mapping[str, AnyArray]) -> dict[str, float]:
    return {
        name: float(np.abs(got[name].astype(np.float64) - expected[name].astype(np.float64)).max())
        for name in sorted(expected)
    }
