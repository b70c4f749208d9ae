"""ONNX FP32 → ONNX in half floats; inputs and outputs keep the signature's types.

`fp16` puts everything there that a rule does not keep out of it. `mixed` also keeps out, as seen on the
calibration set, what half floats cannot hold and what loses too much in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from converter.datasets import load_datasets
from converter.errors import PassError, Reason, RouteError
from converter.jobs import Job
from converter.layers import assigned
from converter.passes.onnx_file import FILE, canonical, describe
from converter.passes.onnx_graphs import attribute_of
from converter.passes.onnx_half_emulation import lossy_nodes
from converter.passes.onnx_layers import float_weights, onnx_layers
from converter.passes.onnx_observing import observed
from converter.passes.prepared import samples
from converter.passes.ranges import Range, seen
from converter.variants import Precision, read_rules

__all__ = ["GREATEST_HALF", "LEAST_HALF", "run"]

GREATEST_HALF = 65504.0
LEAST_HALF = 2.0**-24
"""Half of this rounds to zero; a tensor all of whose values are smaller is gone."""
_SAMPLES = 16
"""Of the calibration set, on which `mixed` compares: each trial runs them all."""
_SHOWN = 5
_KEPT_KINDS = (*DEFAULT_OP_BLOCK_LIST, "Cast")
"""Casts are to the type they say; converted, they would be to a type that disagrees with what reads them."""


def run(job: Job) -> Mapping[str, Any]:
    """Write `model.onnx`; the facts name the layers left in single floats and those out of range."""
    precision = Precision(job.params["precision"])
    model = onnx.load(job.inputs["model"])
    layers = onnx_layers(model)
    given = assigned(layers, read_rules(job.params), default=precision)
    kept = _kept_by_rules(given, precision)
    recipe = job.recipe()
    calibration = load_datasets(recipe).calibration
    found = seen(lambda: observed(model, samples(recipe, calibration)), job_name=job.name)
    outside = [name for name in _out_of_range(model, found) if name not in kept]
    lossy: list[str] = []
    if precision is Precision.MIXED:
        taken = [sample for sample, _ in zip(samples(recipe, calibration), range(_SAMPLES), strict=False)]
        lossy = lossy_nodes(model, kept | set(outside), taken)
        kept |= {*outside, *lossy}
    elif overflowing := [name for name in outside if _greatest(model, found, name) > GREATEST_HALF]:
        shown = ", ".join(overflowing[:_SHOWN])
        raise PassError(
            job.name,
            Reason.NOT_FINITE,
            f"values beyond half floats' {GREATEST_HALF:g} on the calibration set in {shown}; ask for mixed",
        )
    halves = _converted(model, kept)
    left = _left_in_float(halves)
    weighted = [layer.layer for layer in layers if layer.weight_bytes]
    if weighted and all(item.data_type != onnx.TensorProto.FLOAT16 for item in halves.graph.initializer):
        raise PassError(job.name, Reason.UNCHANGED, "no weight is in half floats; ask for fp32 instead")
    content = canonical(halves)
    (job.out / FILE).write_bytes(content)
    return {
        **describe(halves),
        "left_in_float": [name for name in weighted if name in left],
        "kept_in_float": sorted(kept),
        "out_of_range": outside,
        "lossy": lossy,
        "calibration_samples": len(calibration),
    }


def _kept_by_rules(given: Mapping[str, Precision], default: Precision) -> set[str]:
    for name, precision in given.items():
        if precision not in (default, Precision.FP32, Precision.FP16):
            raise RouteError(f"layer {name}: {precision.value} cannot be mixed with half floats; use fp32")
    return {name for name, precision in given.items() if precision is Precision.FP32}


def _out_of_range(model: Any, found: Mapping[str, Range]) -> list[str]:  # noqa: ANN401 - onnx is untyped
    """Nodes one of whose results or inputs half floats cannot hold, or of which they would leave nothing."""
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    lost = {name for name, item in found.items() if not _held(_greatest_of(item))}
    lost |= {
        name
        for name, value in constants.items()
        if value.dtype.kind == "f" and value.any() and not _held(float(np.abs(value).max()))
    }
    return [node.name for node in model.graph.node if lost.intersection((*node.input, *node.output))]


def _greatest(model: Any, found: Mapping[str, Range], name: str) -> float:  # noqa: ANN401
    node = next(item for item in model.graph.node if item.name == name)
    constants = {item.name: item for item in model.graph.initializer}
    sizes = [_greatest_of(found[tensor]) for tensor in (*node.input, *node.output) if tensor in found]
    sizes += [
        float(np.abs(onnx.numpy_helper.to_array(constants[tensor])).max(initial=0.0))
        for tensor in node.input
        if tensor in constants
    ]
    return max(sizes, default=0.0)


def _greatest_of(item: Range) -> float:
    return max(abs(item.low), abs(item.high))


def _held(greatest: float) -> bool:
    """Whether half floats leave something of a tensor whose greatest size this is."""
    return greatest == 0.0 or LEAST_HALF <= greatest <= GREATEST_HALF


def _converted(model: Any, kept: set[str]) -> Any:  # noqa: ANN401
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    halves = convert_float_to_float16(
        onnx.shape_inference.infer_shapes(copy),
        keep_io_types=True,
        op_block_list=list(_KEPT_KINDS),
        node_block_list=sorted(kept),
        disable_shape_infer=True,
    )
    _join_kept(halves, {node.name for node in model.graph.node})
    return halves


def _join_kept(model: Any, own: set[str]) -> None:  # noqa: ANN401
    """Let nodes in single floats hand them to each other; the converter goes by half floats and back."""
    makers = {output: node for node in model.graph.node for output in node.output}
    direct: dict[str, str] = {}
    for node in model.graph.node:
        maker = makers.get(node.input[0]) if node.op_type == "Cast" and node.name not in own else None
        if maker is None or maker.op_type != "Cast" or maker.name in own:
            continue
        if attribute_of(node, "to") == onnx.TensorProto.FLOAT:
            direct[node.output[0]] = maker.input[0]
    for node in model.graph.node:
        node.input[:] = [direct.get(name, name) for name in node.input]
    answers = {item.name for item in model.graph.output}
    read = {name for node in model.graph.node for name in node.input} | answers
    unread = [node for node in model.graph.node if node.op_type == "Cast" and read.isdisjoint(node.output)]
    while unread:
        for node in unread:
            model.graph.node.remove(node)
        read = {name for node in model.graph.node for name in node.input} | answers
        unread = [
            node for node in model.graph.node if node.op_type == "Cast" and read.isdisjoint(node.output)
        ]


def _left_in_float(model: Any) -> set[str]:  # noqa: ANN401
    weights = {
        name for name, item in float_weights(model.graph).items() if item.data_type == onnx.TensorProto.FLOAT
    }
    return {node.name for node in model.graph.node if weights.intersection(node.input)}
