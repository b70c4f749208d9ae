"""TFLite FP32 → TFLite in fewer bits, by ai-edge-quantizer, which needs no TensorFlow.

Inputs and outputs keep the signature's types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_quantizer.quantizer import Quantizer

from converter.datasets import load_datasets
from converter.errors import PassError, Reason, RouteError
from converter.jobs import Job
from converter.layers import Layer, assigned, check_options
from converter.passes.prepared import samples
from converter.passes.ranges import ranges_of
from converter.passes.tflite_file import FILE, describe, left_in_float
from converter.passes.tflite_layers import opened, row_length, scope_of, tflite_layers
from converter.passes.tflite_observing import observed, refused_operator
from converter.passes.tflite_recipes import STATIC_BITS, LayerRecipes
from converter.recipe import Recipe
from converter.variants import Calibration, Precision, read_rules

__all__ = ["run"]

_USED_BY = {
    "calibration": frozenset(STATIC_BITS),
    "per_channel": frozenset({*STATIC_BITS, Precision.INT8_DYNAMIC, Precision.INT8_WEIGHTS}),
    "block_size": frozenset({Precision.INT4_WEIGHTS}),
}
_MOST_REFUSED = 8
"""Kinds of operators; a file that LiteRT refuses for more is no use."""


def run(job: Job) -> Mapping[str, Any]:
    """Write `model.tflite`; the facts describe it and name the layers whose weights are floats still."""
    content = job.inputs["model"].read_bytes()
    layers = tflite_layers(opened(content))
    given = assigned(layers, read_rules(job.params), default=Precision(job.params["precision"]))
    check_options(given, job.params, _USED_BY)
    recipe = job.recipe()
    ranges, facts = None, dict[str, Any]()
    if not STATIC_BITS.keys().isdisjoint(given.values()):
        ranges, facts["calibration_samples"] = _calibrated(job, recipe, content)
    quantized, facts["without_kernel"] = _loadable(job, content, given, ranges)
    left = left_in_float(opened(quantized), layers)
    _check_changed(job, layers, given, left)
    (job.out / FILE).write_bytes(quantized)
    names = [plan.tensor.name for plan in recipe.inputs], [tensor.name for tensor in recipe.outputs]
    return {**describe(quantized, *names), **facts, "left_in_float": left}


def _calibrated(job: Job, recipe: Recipe, content: bytes) -> tuple[Mapping[str, Any], int]:
    """Ranges as the quantizer takes them, and of how many samples they are."""
    calibration = load_datasets(recipe).calibration
    found = ranges_of(
        lambda: observed(content, recipe, samples(recipe, calibration)),
        Calibration(job.params.get("calibration", Calibration.MINMAX.value)),
        job_name=job.name,
    )
    ranges = {
        name: {"min": np.array([[low]], np.float32), "max": np.array([[high]], np.float32)}
        for name, (low, high) in found.items()
    }
    return ranges, len(calibration)


def _loadable(
    job: Job, content: bytes, given: Mapping[str, Precision], ranges: Mapping[str, Any] | None
) -> tuple[bytes, list[str]]:
    """The quantized file, and the operators left in floats because LiteRT refuses what the quantizer makes.

    It makes some without a word, such as ADD in sixteen bits, whose kernel takes powers of two for scales.
    """
    model = opened(content)
    refused: list[str] = []
    while len(refused) <= _MOST_REFUSED:
        recipes = LayerRecipes(
            per_channel=bool(job.params.get("per_channel", True)), block_size=job.params.get("block_size")
        )
        for index, layer in enumerate(tflite_layers(model)):
            if layer.op not in refused:
                scope, row = scope_of(model, index), row_length(model, index)
                recipes.add(layer, given[layer.layer], scope=scope, row=row)
        if not recipes.content:
            break
        quantizer = Quantizer(content, recipes.content)
        quantized = bytes(quantizer.quantize(ranges, enable_progress_report=False).quantized_model)
        operator = refused_operator(quantized)
        if operator is None:
            return quantized, refused
        refused.append(operator)
    kinds = ", ".join(refused) or "any of its layers"
    message = f"LiteRT has no kernel in {job.params['precision']} for {kinds}; ask for fp32 instead"
    raise PassError(job.name, Reason.UNCHANGED, message)


def _check_changed(
    job: Job, layers: tuple[Layer, ...], given: Mapping[str, Precision], left: list[str]
) -> None:
    default = Precision(job.params["precision"])
    weighted = [layer.layer for layer in layers if layer.weight_bytes]
    wanted = [name for name in weighted if given[name] is not Precision.FP32]
    for name in wanted:
        if name in left and given[name] is not default:
            raise RouteError(f"layer {name}: TFLite has no {given[name].value} for its operator")
    if all(name in left for name in wanted):
        message = f"none of {len(weighted)} layers with weights can be {default.value}; ask for fp32 instead"
        raise PassError(job.name, Reason.UNCHANGED, message)
