"""ONNX FP32 → ONNX in half floats; inputs and outputs keep the signature's types.

`fp16` puts everything there that a rule does not keep out of it. `mixed` also keeps out, as seen on the
calibration set, what half floats cannot hold and what loses too much in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from converter.datasets import load_datasets
from converter.errors import PassError, Reason, RouteError
from converter.jobs import Job
from converter.layers import assigned
from converter.passes.onnx_file import FILE, canonical, describe
from converter.passes.onnx_layers import float_weights, onnx_layers
from converter.passes.onnx_observing import float_session, observed
from converter.passes.prepared import samples
from converter.passes.ranges import Range, seen
from converter.variants import Precision, read_rules
from edge_runtime.port import AnyArray

__all__ = ["GREATEST_HALF", "LEAST_HALF", "run"]

GREATEST_HALF = 65504.0
LEAST_HALF = 2.0**-24
"""Half of this rounds to zero; a tensor all of whose values are smaller is gone."""
_ENOUGH = 1e-3
"""How far answers of `mixed` may lie from those in FP32, relative to the greatest: FP32's own parity."""
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
        lossy = _lossy(model, kept | set(outside), taken)
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
    lost = {name for name, item in found.items() if _greatest_of(item) > GREATEST_HALF or _vanishes(item)}
    lost |= {
        name
        for name, value in constants.items()
        if value.dtype.kind == "f" and value.size and float(np.abs(value).max()) > GREATEST_HALF
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


def _vanishes(item: Range) -> bool:
    return 0.0 < _greatest_of(item) < LEAST_HALF


def _converted(model: Any, kept: set[str]) -> Any:  # noqa: ANN401
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    return convert_float_to_float16(
        onnx.shape_inference.infer_shapes(copy),
        keep_io_types=True,
        op_block_list=list(_KEPT_KINDS),
        node_block_list=sorted(kept),
        disable_shape_infer=True,
    )


def _left_in_float(model: Any) -> set[str]:  # noqa: ANN401
    weights = {
        name for name, item in float_weights(model.graph).items() if item.data_type == onnx.TensorProto.FLOAT
    }
    return {node.name for node in model.graph.node if weights.intersection(node.input)}


def _lossy(model: Any, kept: set[str], taken: Sequence[Mapping[str, AnyArray]]) -> list[str]:  # noqa: ANN401
    """The fewest nodes, of those that add most to the error, with which the answers are near enough."""
    answers = [item.name for item in model.graph.output]
    expected = _answers(model, answers, taken)
    if _error(_converted(model, kept), answers, taken, expected) <= _ENOUGH:
        return []
    ranked = [name for name in _by_error_added(model, _converted(model, kept), taken) if name not in kept]
    low, high = 0, len(ranked)
    while high - low > 1:
        middle = (low + high) // 2
        enough = _error(_converted(model, kept | {*ranked[:middle]}), answers, taken, expected) <= _ENOUGH
        low, high = (low, middle) if enough else (middle, high)
    return ranked[:high]


def _by_error_added(model: Any, halves: Any, taken: Sequence[Mapping[str, AnyArray]]) -> list[str]:  # noqa: ANN401
    """Nodes, those first whose results are farther off than what they were given."""
    errors: dict[str, float] = {}
    for exact, rounded in zip(observed(model, taken), observed(halves, taken), strict=True):
        for name in exact.keys() & rounded.keys():
            errors[name] = max(errors.get(name, 0.0), _difference(rounded[name], exact[name]))
    added = {
        node.name: max((errors.get(name, 0.0) for name in node.output), default=0.0)
        - max((errors.get(name, 0.0) for name in node.input), default=0.0)
        for node in model.graph.node
    }
    return sorted(added, key=lambda name: -added[name])


def _answers(
    model: Any,  # noqa: ANN401
    names: Sequence[str],
    taken: Sequence[Mapping[str, AnyArray]],
) -> list[list[AnyArray]]:
    session = float_session(model.SerializeToString())
    return [session.run(list(names), dict(sample)) for sample in taken]


def _error(
    model: Any,  # noqa: ANN401
    names: Sequence[str],
    taken: Sequence[Mapping[str, AnyArray]],
    expected: Sequence[Sequence[AnyArray]],
) -> float:
    got = _answers(model, names, taken)
    return max(
        _difference(one, other)
        for row, wanted in zip(got, expected, strict=True)
        for one, other in zip(row, wanted, strict=True)
    )


def _difference(got: AnyArray, exact: AnyArray) -> float:
    """The greatest, relative to the greatest exact value or 1; infinite where there is no value."""
    if not exact.size:
        return 0.0
    difference = float(np.abs(got.astype(np.float64) - exact).max())
    return difference / max(1.0, float(np.abs(exact).max())) if np.isfinite(difference) else np.inf
