"""Core ML FP16 mlpackage → mlpackage with compressed weights, and with activations in integers for `int8`.

By coremltools' own passes, each told of every weight by name. Its calibration runs the model, which takes
macOS; the ranges given to it here are those the reference evaluator saw.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
from coremltools.converters.mil.mil.passes.graph_pass import PassOption
from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
from coremltools.models.utils import _apply_graph_pass

from converter.coreml_reference.datatypes import ElementType
from converter.coreml_reference.evaluator import Evaluator
from converter.coreml_reference.loading import read_package
from converter.coreml_reference.program import Operation, Program
from converter.coreml_reference.runtime import feature
from converter.datasets import load_datasets
from converter.errors import PassError, Reason, RouteError
from converter.jobs import Job
from converter.layers import Layer, assigned, check_options
from converter.passes.coreml_file import canonical
from converter.passes.coreml_layers import coreml_layers, weight_names
from converter.passes.palettes import palette
from converter.passes.prepared import samples
from converter.passes.ranges import ranges_of
from converter.variants import Calibration, Precision, read_rules
from edge_runtime.port import AnyArray

__all__ = ["run"]

_PALETTE_BITS = {
    Precision.PALETTE8: 8,
    Precision.PALETTE6: 6,
    Precision.PALETTE4: 4,
    Precision.PALETTE3: 3,
    Precision.PALETTE2: 2,
}
_LINEAR = (Precision.INT8, Precision.INT8_WEIGHTS, Precision.INT4_WEIGHTS)
_LEFT = (Precision.FP32, Precision.FP16)
"""What a rule may ask for so that a layer is left as it is in the float package."""
_TARGETS = {Precision.INT8: "iOS17", Precision.INT4_WEIGHTS: "iOS18", Precision.PALETTE3: "iOS18"}
"""The first system whose operators hold it, where that is later than the float package's."""
_USED_BY = {
    "calibration": frozenset({Precision.INT8}),
    "per_channel": frozenset({Precision.INT8, Precision.INT8_WEIGHTS}),
    "block_size": frozenset({Precision.INT4_WEIGHTS}),
}
_DEFAULT_BLOCK = 32
_LEAST_ELEMENTS = 10
"""coremltools keeps a constant below this within the specification, where it cannot be compressed."""


def run(job: Job) -> Mapping[str, Any]:
    """Write `<model>.mlpackage`; the facts describe it and name the layers whose weights are floats still."""
    source = job.inputs["model"]
    program = read_package(source)
    layers = coreml_layers(program)
    default = Precision(job.params["precision"])
    given = assigned(layers, read_rules(job.params), default=default)
    for name, precision in given.items():
        if precision not in (*_LINEAR, *_PALETTE_BITS, *_LEFT):
            raise RouteError(f"layer {name}: Core ML has no {precision.value} within an FP16 package")
    check_options(given, job.params, _USED_BY)
    opened = job.folder / "opened" / source.name
    shutil.copytree(source, opened)  # coremltools writes into the package it opens
    model = ct.models.MLModel(str(opened), skip_model_load=True)
    names = [feature_.name for feature_ in model.get_spec().description.output]
    target, compressed, facts = _compressed(job, model, program, given)
    package = job.out / f"{job.recipe().name.model}.mlpackage"
    compressed.save(str(package))
    canonical(package, names)
    after = read_package(package)
    left = _left_in_float(after, layers)
    _check_changed(job, layers, given, left)
    kinds = Counter(operation.kind for operation in after.block.operations)
    return {
        "inputs": {plan.tensor.name: plan.tensor.name for plan in job.recipe().inputs},
        "outputs": dict(zip([tensor.name for tensor in job.recipe().outputs], names, strict=True)),
        "operators": sum(count for kind, count in kinds.items() if kind != "const"),
        "kinds": {kind: count for kind, count in sorted(kinds.items()) if kind != "const"},
        "minimum_deployment_target": target,
        "left_in_float": left,
        **facts,
    }


def _compressed(
    job: Job,
    model: Any,  # noqa: ANN401 - coremltools is untyped
    program: Program,
    given: Mapping[str, Precision],
) -> tuple[str, Any, dict[str, Any]]:
    """The least system it needs, the model, and the facts of its calibration."""
    constants = _weights(program, given)
    used = {precision for precision, _ in constants.values()}
    target = max([str(job.params["minimum_deployment_target"]), *(_TARGETS.get(item, "") for item in used)])
    version = getattr(ct.target, target).value
    facts: dict[str, Any] = {}
    passes: list[Any] = []
    if Precision.INT8 in given.values():
        kept = {name for name, precision in given.items() if precision is not Precision.INT8}
        kept |= _whole(program)
        ranges, facts = _calibrated(job, program)
        passes += _activation_passes(model, version, kept, ranges)
    passes += _weight_passes("linear_quantize_weights", _linear(job, constants))
    passes += _weight_passes("palettize_weights", _palettes(constants))
    if passes:
        model = _apply_graph_pass(model, passes, spec_version=version, skip_model_load=True)
    return target, model, facts


def _weights(program: Program, given: Mapping[str, Precision]) -> dict[str, tuple[Precision, Operation]]:
    """Constants to compress, by name; one that several layers share goes with the first of them."""
    constants = {item.outputs[0].name: item for item in program.block.operations if item.kind == "const"}
    found: dict[str, tuple[Precision, Operation]] = {}
    for operation in program.block.operations:
        if operation.kind == "const" or not operation.outputs:
            continue
        for name in weight_names(operation, constants):
            precision = given[operation.outputs[0].name]
            if precision not in _LEFT and _shrinks(precision, constants[name]):
                found.setdefault(name, (precision, constants[name]))
    return found


def _shrinks(precision: Precision, constant: Operation) -> bool:
    shape = constant.outputs[0].type.shape or ()
    elements = int(np.prod([length or 0 for length in shape]))
    bits = _PALETTE_BITS.get(precision)
    if bits is None:
        return elements >= _LEAST_ELEMENTS
    return elements >= _LEAST_ELEMENTS and elements * bits / 8 + 2 * (1 << bits) < 2 * elements


def _linear(job: Job, constants: Mapping[str, tuple[Precision, Operation]]) -> dict[str, Any]:
    per_channel = bool(job.params.get("per_channel", True))
    configs: dict[str, Any] = {}
    for name, (precision, constant) in constants.items():
        if precision is Precision.INT4_WEIGHTS:
            shape = constant.outputs[0].type.shape or ()
            size = int(job.params.get("block_size", _DEFAULT_BLOCK))
            divides = len(shape) > 1 and bool(shape[1]) and (shape[1] or 1) % size == 0
            configs[name] = cto.OpLinearQuantizerConfig(
                mode="linear_symmetric",
                dtype="int4",
                granularity="per_block" if divides else "per_channel",
                block_size=size if divides else 0,
                weight_threshold=0,
            )
        elif precision in _LINEAR:
            configs[name] = cto.OpLinearQuantizerConfig(
                mode="linear_symmetric",
                dtype="int8",
                granularity="per_channel" if per_channel else "per_tensor",
                weight_threshold=0,
            )
    return configs


def _palettes(constants: Mapping[str, tuple[Precision, Operation]]) -> dict[str, Any]:
    return {
        name: cto.OpPalettizerConfig(
            mode="custom",
            lut_function=lambda values, bits=_PALETTE_BITS[precision]: palette(values, bits),
            weight_threshold=0,
        )
        for name, (precision, _) in constants.items()
        if precision in _PALETTE_BITS
    }


def _weight_passes(kind: str, configs: Mapping[str, Any]) -> Iterator[Any]:
    if configs:
        step = PASS_REGISTRY[f"compression::{kind}"]
        step.set_options([PassOption("config", cto.OptimizationConfig(op_name_configs=dict(configs)))])
        yield step


def _activation_passes(
    model: Any,  # noqa: ANN401
    version: int,
    kept: set[str],
    ranges: Mapping[str, tuple[float, float]],
) -> Iterator[Any]:
    """What puts activations into eight bits around the layers that know them, except those to be kept."""
    from coremltools.converters.mil.frontend.milproto import load  # noqa: PLC0415

    loaded = load.load(model.get_spec(), version, model.weights_dir)
    names = {
        operation.outputs[0].name: operation.name
        for operation in loaded.functions["main"].operations
        if operation.outputs
    }
    activations = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0)
    config = cto.OptimizationConfig(
        global_config=activations, op_name_configs={names[name]: None for name in sorted(kept)}
    )
    stats = {name: {"rmin": low, "rmax": high} for name, (low, high) in ranges.items()}
    for place in ("prefix", "suffix"):
        step = PASS_REGISTRY[f"compression::insert_{place}_quantize_dequantize_pair"]
        step.set_options([PassOption("config", config), PassOption("activation_stats", stats)])
        yield step
    yield PASS_REGISTRY["common::dequantize_quantize_pair_elimination"]


def _whole(program: Program) -> set[str]:
    """Operations on whole numbers, such as a sum of indices, which coremltools would quantize as well."""
    floats = (ElementType.FLOAT16, ElementType.FLOAT32)
    return {
        operation.outputs[0].name
        for operation in program.block.operations
        if operation.kind != "const" and operation.outputs and operation.outputs[0].type.element not in floats
    }


def _calibrated(job: Job, program: Program) -> tuple[dict[str, tuple[float, float]], dict[str, Any]]:
    recipe = job.recipe()
    calibration = load_datasets(recipe).calibration
    made = [
        named.name
        for operation in program.block.operations
        if operation.kind != "const"
        for named in operation.outputs
    ]
    evaluator = Evaluator(replace(program, block=replace(program.block, outputs=tuple(made))))

    def observed() -> Iterator[dict[str, AnyArray]]:
        for sample in samples(recipe, calibration):
            inputs = {name: feature(program, name, value) for name, value in sample.items()}
            values = {**inputs, **evaluator.run(inputs)}
            yield {name: np.asarray(value, np.float32) for name, value in values.items()}

    chosen = Calibration(job.params.get("calibration", Calibration.MINMAX.value))
    ranges = ranges_of(observed, chosen, job_name=job.name)
    return ranges, {"calibration_samples": len(calibration), "calibrated_by": "reference evaluator"}


def _left_in_float(after: Program, layers: tuple[Layer, ...]) -> list[str]:
    """The layers with a weight that is a plain constant still."""
    still = {layer.layer for layer in coreml_layers(after) if layer.weight_bytes}
    return [layer.layer for layer in layers if layer.weight_bytes and layer.layer in still]


def _check_changed(
    job: Job, layers: tuple[Layer, ...], given: Mapping[str, Precision], left: list[str]
) -> None:
    weighted = [layer.layer for layer in layers if layer.weight_bytes]
    wanted = [name for name in weighted if given[name] not in _LEFT]
    if all(name in left for name in wanted):
        default = job.params["precision"]
        message = f"none of {len(weighted)} layers with weights can be {default}; ask for fp16 instead"
        raise PassError(job.name, Reason.UNCHANGED, message)
