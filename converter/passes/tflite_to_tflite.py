"""TFLite FP32 → TFLite in fewer bits, by ai-edge-quantizer, which needs no TensorFlow.

Every layer is given its own configuration, so that a rule changes it alone; what a policy of the quantizer
does not know it would leave in floats without a word. Inputs and outputs keep the signature's types.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.qtyping import QuantGranularity, TFLOperationName
from ai_edge_quantizer.quantizer import Quantizer
from ai_edge_quantizer.recipe_manager import RecipeManager

from converter.datasets import load_datasets
from converter.errors import PassError, Reason, RouteError
from converter.jobs import Job
from converter.layers import Layer, assigned, check_options
from converter.passes.prepared import samples
from converter.passes.ranges import ranges_of
from converter.passes.telling import counted
from converter.passes.tflite_file import FILE, describe, left_in_float
from converter.passes.tflite_layers import opened, row_length, scope_of, tflite_layers
from converter.passes.tflite_observing import observed
from converter.variants import Calibration, Precision, read_rules
from edge_runtime.port import AnyArray

__all__ = ["run"]

_STATIC = {Precision.INT8: 8, Precision.INT16X8: 16}
_USED_BY = {
    "calibration": frozenset(_STATIC),
    "per_channel": frozenset({*_STATIC, Precision.INT8_DYNAMIC, Precision.INT8_WEIGHTS}),
    "block_size": frozenset({Precision.INT4_WEIGHTS}),
}
_OPERATIONS = {item.value: item for item in TFLOperationName if item.value.isupper()}
_FOUR_BITS = ("CONV_2D", "FULLY_CONNECTED", "EMBEDDING_LOOKUP", "BATCH_MATMUL")
_IN_BLOCKS = ("FULLY_CONNECTED", "EMBEDDING_LOOKUP")
_BLOCKS = {
    32: QuantGranularity.BLOCKWISE_32,
    64: QuantGranularity.BLOCKWISE_64,
    128: QuantGranularity.BLOCKWISE_128,
    256: QuantGranularity.BLOCKWISE_256,
}
_DEFAULT_BLOCK = 32


def run(job: Job) -> Mapping[str, Any]:
    """Write `model.tflite`; the facts describe it and name the layers whose weights are floats still."""
    content = job.inputs["model"].read_bytes()
    model = opened(content)
    layers = tflite_layers(model)
    default = Precision(job.params["precision"])
    given = assigned(layers, read_rules(job.params), default=default)
    check_options(given, job.params, _USED_BY)
    recipe = job.recipe()
    manager = RecipeManager()
    for index, layer in enumerate(layers):
        scope = scope_of(model, index)
        _configure(manager, job, layer, scope, given[layer.layer], row_length(model, index))
    facts: dict[str, Any] = {}
    ranges = None
    if any(precision in _STATIC for precision in given.values()):
        calibration = load_datasets(recipe).calibration
        total = len(calibration)

        def told() -> Iterable[Mapping[str, AnyArray]]:
            return counted(job, samples(recipe, calibration), total=total, what="calibration samples")

        found = ranges_of(
            lambda: observed(content, recipe, told()),
            Calibration(job.params.get("calibration", Calibration.MINMAX.value)),
            job_name=job.name,
        )
        ranges = {
            name: {"min": np.array([[low]], np.float32), "max": np.array([[high]], np.float32)}
            for name, (low, high) in found.items()
        }
        facts["calibration_samples"] = len(calibration)
    quantizer = Quantizer(content, manager.get_quantization_recipe())
    quantized = bytes(quantizer.quantize(ranges, enable_progress_report=False).quantized_model)
    left = left_in_float(opened(quantized), layers)
    _check_changed(job, layers, given, left)
    (job.out / FILE).write_bytes(quantized)
    names = [plan.tensor.name for plan in recipe.inputs], [tensor.name for tensor in recipe.outputs]
    return {**describe(quantized, *names), **facts, "left_in_float": left}


def _configure(
    manager: Any,  # noqa: ANN401 - untyped
    job: Job,
    layer: Layer,
    scope: str,
    precision: Precision,
    row: int,
) -> None:
    """Say what becomes of one layer; what no kernel computes so is left, and found out afterwards."""
    operation = _OPERATIONS.get(_renamed(layer.op))
    if operation is None or precision is Precision.FP32 or not (layer.weight_bytes or precision in _STATIC):
        return
    regex = f"^{re.escape(scope)}$"
    granularity = (
        QuantGranularity.CHANNELWISE if job.params.get("per_channel", True) else QuantGranularity.TENSORWISE
    )
    match precision:
        case Precision.FP16:
            manager.add_weight_only_config(regex, operation, 16, algorithm_key=AlgorithmName.FLOAT_CASTING)
        case Precision.INT8_WEIGHTS:
            manager.add_weight_only_config(regex, operation, 8, granularity)
        case Precision.INT8_DYNAMIC:
            manager.add_dynamic_config(regex, operation, 8, granularity)
        case Precision.INT4_WEIGHTS:
            _configure_four_bits(manager, job, layer, regex, operation, row)
        case Precision.INT8 | Precision.INT16X8:
            with contextlib.suppress(ValueError):  # the only way to learn that an operator is not known
                manager.add_static_config(regex, operation, _STATIC[precision], 8, granularity)
        case _:
            raise RouteError(f"layer {layer.layer}: TFLite has no {precision.value}")


def _configure_four_bits(
    manager: Any,  # noqa: ANN401
    job: Job,
    layer: Layer,
    regex: str,
    operation: Any,  # noqa: ANN401
    row: int,
) -> None:
    """In blocks where kernels know them, else by channel; in eight bits where none know four."""
    if layer.op not in _FOUR_BITS:
        manager.add_weight_only_config(regex, operation, 8)
        return
    size = job.params.get("block_size", _DEFAULT_BLOCK)
    if size not in _BLOCKS:
        raise RouteError(f"TFLite has blocks of {', '.join(map(str, _BLOCKS))} weights, none of {size}")
    if layer.op in _IN_BLOCKS and row and row % size == 0:
        manager.add_dynamic_config(regex, operation, 4, _BLOCKS[size])
    elif layer.op == "BATCH_MATMUL":
        manager.add_weight_only_config(regex, operation, 4)
    else:
        # Weights that kernels read as they are; behind a DEQUANTIZE they are unpacked at every run.
        manager.add_dynamic_config(regex, operation, 4)


def _renamed(op: str) -> str:
    """The quantizer's name of an operator."""
    return {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}.get(op, op)


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
