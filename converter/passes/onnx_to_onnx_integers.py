"""ONNX FP32 → ONNX with weights, or weights and arithmetic, in integers; layer rules may mix them.

Weights alone come first and ranges last, so that ranges are those of the model they are used in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx

from converter.datasets import load_datasets
from converter.errors import PassError, Reason, RouteError
from converter.jobs import Job
from converter.layers import Layer, assigned, check_options
from converter.passes.onnx_file import FILE, canonical, describe
from converter.passes.onnx_integer_arithmetic import quantize_dynamically, quantize_statically
from converter.passes.onnx_layers import float_weights, onnx_layers
from converter.passes.onnx_observing import observed
from converter.passes.onnx_rewriting import fused, without_gemm
from converter.passes.onnx_weight_only import hold_weights
from converter.passes.prepared import samples
from converter.passes.ranges import ranges_of
from converter.variants import Calibration, Precision, read_rules

__all__ = ["run"]

_WEIGHT_BITS = {Precision.INT8_WEIGHTS: 8, Precision.INT4_WEIGHTS: 4}
_ARITHMETIC = frozenset({Precision.INT8, Precision.INT8_DYNAMIC})
_USED_BY = {
    "calibration": frozenset({Precision.INT8}),
    "per_channel": _ARITHMETIC,
    "reduce_range": _ARITHMETIC,
    "block_size": frozenset(_WEIGHT_BITS),
}
_MIXABLE = (Precision.FP32, Precision.INT8, Precision.INT8_DYNAMIC, *_WEIGHT_BITS)


def run(job: Job) -> Mapping[str, Any]:
    """Write `model.onnx`; the facts describe it and name the layers whose weights are floats still."""
    layers = onnx_layers(onnx.load(job.inputs["model"]))
    given = assigned(layers, read_rules(job.params), default=Precision(job.params["precision"]))
    _check_mixable(given)
    check_options(given, job.params, _USED_BY)
    model = fused(job.inputs["model"], job.folder / "fused.onnx")
    floats = _float_layers(model)
    model, facts = _quantized(job, model, given)
    left = _left_in_float(model, floats)
    _check_changed(job, layers, given, left)
    content = canonical(model)
    (job.out / FILE).write_bytes(content)
    return {**describe(model), **facts, "left_in_float": left}


def _quantized(job: Job, model: Any, given: Mapping[str, Precision]) -> tuple[Any, dict[str, Any]]:  # noqa: ANN401
    facts: dict[str, Any] = {}
    per_channel, reduce_range = (bool(job.params.get(key, True)) for key in ("per_channel", "reduce_range"))
    for precision, bits in _WEIGHT_BITS.items():
        if names := _named(given, precision):
            hold_weights(model, names, bits=bits, block_size=job.params.get("block_size"))
    if names := _named(given, Precision.INT8_DYNAMIC):
        without_gemm(model, names)
        model = quantize_dynamically(model, names, per_channel=per_channel, reduce_range=reduce_range)
    if names := _named(given, Precision.INT8):
        recipe = job.recipe()
        calibration = load_datasets(recipe).calibration
        floats = model
        ranges = ranges_of(
            lambda: observed(floats, samples(recipe, calibration)),
            Calibration(job.params.get("calibration", Calibration.MINMAX.value)),
            job_name=job.name,
        )
        model = quantize_statically(model, names, ranges, per_channel=per_channel, reduce_range=reduce_range)
        facts["calibration_samples"] = len(calibration)
    return model, facts


def _named(given: Mapping[str, Precision], precision: Precision) -> frozenset[str]:
    return frozenset(name for name, chosen in given.items() if chosen is precision)


def _float_layers(model: Any) -> dict[str, list[bytes]]:  # noqa: ANN401
    """The weights of every layer, as they were before."""
    weights = {name: _content(item) for name, item in float_weights(model.graph).items()}
    return {
        node.name: [weights[name] for name in node.input if name in weights]
        for node in model.graph.node
        if any(name in weights for name in node.input)
    }


def _left_in_float(model: Any, floats: Mapping[str, list[bytes]]) -> list[str]:  # noqa: ANN401
    still = {_content(item) for item in float_weights(model.graph).values()}
    return [name for name, weights in floats.items() if any(content in still for content in weights)]


def _content(tensor: Any) -> bytes:  # noqa: ANN401
    content: bytes = onnx.numpy_helper.to_array(tensor).tobytes()
    return content


def _check_mixable(given: Mapping[str, Precision]) -> None:
    for name, precision in given.items():
        if precision not in _MIXABLE:
            known = ", ".join(item.value for item in _MIXABLE)
            raise RouteError(
                f"layer {name}: {precision.value} cannot be mixed with integers in ONNX; use {known}"
            )


def _check_changed(
    job: Job, layers: tuple[Layer, ...], given: Mapping[str, Precision], left: list[str]
) -> None:
    default = Precision(job.params["precision"])
    weighted = [layer.layer for layer in layers if layer.weight_bytes]
    wanted = [name for name in weighted if given[name] is not Precision.FP32]
    changed = [name for name in wanted if name not in left]
    for name in wanted:
        if name in left and given[name] is not default:
            raise RouteError(f"layer {name}: ONNX has no {given[name].value} for its operator")
    if not changed:
        message = f"none of {len(weighted)} layers with weights can be {default.value}; ask for fp32 instead"
        raise PassError(job.name, Reason.UNCHANGED, message)
