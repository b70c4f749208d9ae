"""Finds out what each layer loses in a precision: one after the other is given it, and no other layer is.

The pass that makes variants of that precision makes these models too, and the deployed runtime (or what
stands in for it) answers calibration samples with them. What is compared is the answers' energy: it needs no
labels, and ranks layers long before a metric moves on so few samples.
"""

from __future__ import annotations

import importlib
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from converter.assembly import bindings, model_files
from converter.datasets import Dataset, load_datasets
from converter.errors import ConverterError, UnsupportedOperationError
from converter.host import runs_here
from converter.jobs import Job
from converter.layers import Layer
from converter.passes.list_layers import layers_of
from converter.passes.prepared import prepared
from converter.passes.telling import counted
from converter.recipe import Recipe
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.loading import load
from edge_runtime.package import open_package
from edge_runtime.port import AnyArray
from ota_contract.manifest import Release, Runtime, Variant

__all__ = ["run"]

_MOST_SAMPLES = 64
_EVERYTHING = ".*"
_MAKERS = {
    "onnx_to_onnx_integers": "converter.passes.onnx_to_onnx_integers",
    "onnx_to_onnx_halves": "converter.passes.onnx_to_onnx_halves",
    "tflite_to_tflite": "converter.passes.tflite_to_tflite",
    "coreml_to_coreml": "converter.passes.coreml_to_coreml",
}
"""Spelt out, for the cache to know what this pass runs."""


def run(job: Job) -> Mapping[str, Any]:
    """The facts are the losses, the layers with weights there are, and how many samples were asked.

    Layers with the most weights come first: when time is up, what is left could win the least.
    """
    begun = time.monotonic()
    package = job.inputs["package"]
    release, _ = open_package(package)
    variant = release.variant(job.params["variant"])
    recipe = job.recipe()
    answering = _Answering(recipe, release, load_datasets(recipe).calibration)
    layers = [layer for layer in layers_of(_model_of(package, variant)) if layer.weight_bytes]
    layers.sort(key=lambda layer: (-layer.weight_bytes, layer.layer))
    wanted = answering.outputs(variant, package)
    losses, refused = [], 0
    counted_layers = counted(job, layers, total=len(layers), what="layers")
    for index, layer in enumerate(counted_layers):
        if time.monotonic() - begun >= job.params["seconds"]:
            break
        made = _made_alone(job, layer, variant, package, index)
        if made is None:
            refused += 1
            continue
        folder, alone = made
        losses.append(
            {
                "layer": layer.layer,
                "op": layer.op,
                "weight_bytes": layer.weight_bytes,
                "loss": float(f"{_energy(answering.outputs(alone, folder), wanted):.6g}"),
            }
        )
        shutil.rmtree(folder)
    return {
        "losses": losses,
        "refused": refused,
        "weighted": len(layers),
        "samples": answering.count,
    }


class _Answering:
    """Asks variants about calibration samples, evenly spread."""

    def __init__(self, recipe: Recipe, release: Release, data: Dataset) -> None:
        self.count = min(len(data), _MOST_SAMPLES)
        rows = np.linspace(0, len(data) - 1, self.count).round().astype(np.intp)
        self._tensors = prepared(recipe, data.rows(rows))
        self._release = release

    def outputs(self, variant: Variant, folder: Path) -> AnyArray:
        """The first output, [samples, numbers]."""
        if runs_here(variant.runtime):
            model = load(self._release, variant, folder, threads=1)
        else:
            from converter.coreml_reference.runtime import load as load_reference  # noqa: PLC0415

            model = load_reference(self._release, variant, folder, threads=1)
        rows = list(self._answers(model.run))
        return np.concatenate(rows).astype(np.float64)

    def _answers(self, ask: Any) -> Iterator[AnyArray]:  # noqa: ANN401
        name = self._release.outputs[0].name
        for row in range(self.count):
            answer = ask({key: array[row : row + 1] for key, array in self._tensors.items()})
            yield np.asarray(answer[name]).reshape(1, -1)


def _made_alone(
    job: Job, layer: Layer, variant: Variant, package: Path, index: int
) -> tuple[Path, Variant] | None:
    """A package folder and the variant in it with one layer in the precision; None where it cannot be."""
    maker = importlib.import_module(_MAKERS[job.params["maker"]])
    rules = [
        {"op": "", "layer": re.escape(layer.layer), "precision": job.params["params"]["precision"]},
        {"op": "", "layer": _EVERYTHING, "precision": job.params["float"]},
    ]
    alone = replace(
        job,
        folder=job.folder / f"layer{index}",
        inputs={"model": _model_of(package, variant)},
        params={**job.params["params"], "layers": rules},
    )
    alone.out.mkdir(parents=True)
    try:
        facts = maker.run(alone)
    except (ConverterError, EdgeRuntimeError, UnsupportedOperationError):
        shutil.rmtree(alone.folder)
        return None  # no kernel for this operator, or nothing of it can change
    files = tuple(model_files(alone.out, alone.out))
    return alone.out, replace(
        variant, files=files, inputs=bindings(facts["inputs"]), outputs=bindings(facts["outputs"])
    )


def _model_of(package: Path, variant: Variant) -> Path:
    path = package / variant.model_file.path
    return path.parent if variant.runtime is Runtime.COREML else path


def _energy(got: AnyArray, wanted: AnyArray) -> float:
    """Of the difference, over that of the answers: noise over signal."""
    return float(((got - wanted) ** 2).sum() / max(float((wanted**2).sum()), np.finfo(np.float64).tiny))
