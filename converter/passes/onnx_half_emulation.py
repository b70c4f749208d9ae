"""What half floats would do to a graph's answers, and which nodes lose the most.

ONNX Runtime computes most half-float operators on CPUs in single floats and drops the casts between them, so
running the converted graph here shows next to none of the loss a device has. The loss is put into the single-
float graph instead: every result of a node in halves is rounded to them, and summed in singles as units do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from converter.passes.onnx_observing import float_session, observed
from edge_runtime.port import AnyArray

__all__ = ["emulated", "lossy_nodes"]

_ENOUGH = 5e-3
"""How far answers of `mixed` may lie from FP32's, relative to the greatest: a tenth of what FP16 may."""
_FLOAT = TensorProto.FLOAT
_Samples = Sequence[dict[str, AnyArray]]


def lossy_nodes(model: Any, kept: set[str], taken: _Samples) -> list[str]:  # noqa: ANN401 - onnx is untyped
    """The fewest nodes, of those that add most to the error, with which the answers are near enough.

    Args:
        model: In single floats.
        kept: Nodes that stay so in any case.
        taken: Samples to compare on.
    """
    answers = [item.name for item in model.graph.output]
    expected = _answers(model, answers, taken)

    def enough(also: Sequence[str]) -> bool:
        got = _answers(emulated(model, kept | set(also)), answers, taken)
        return max(map(_difference, got, expected)) <= _ENOUGH

    if enough(()):
        return []
    ranked = _by_error_added(model, kept, taken)
    low, high = 0, len(ranked)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(_with_makers(model, ranked[:middle])) else (middle, high)
    return [name for name in _with_makers(model, ranked[:high]) if name not in kept]


def _with_makers(model: Any, names: Sequence[str]) -> list[str]:  # noqa: ANN401
    """The nodes, and those whose results they read: what makes more of an error needs exact inputs."""
    makers = {output: node.name for node in model.graph.node for output in node.output}
    chosen = set(names)
    read = {
        makers[name]
        for node in model.graph.node
        if node.name in chosen
        for name in node.input
        if name in makers
    }
    return [node.name for node in model.graph.node if node.name in chosen | read]


def emulated(model: Any, kept: set[str]) -> Any:  # noqa: ANN401
    """The graph with every float a node that is not kept reads of the model, or makes, rounded to halves."""
    copy = onnx.shape_inference.infer_shapes(onnx.ModelProto.FromString(model.SerializeToString()))
    types = {
        item.name: item.type.tensor_type.elem_type for item in (*copy.graph.value_info, *copy.graph.output)
    }
    _round_weights(copy.graph, kept)
    nodes: list[Any] = []
    for node in copy.graph.node:
        nodes.append(node)
        if node.name in kept:
            continue
        for index, name in enumerate(node.output):
            if types.get(name) == _FLOAT:
                node.output[index] = f"{name}/exact"
                nodes += _rounding(f"{name}/exact", name)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del copy.graph.node[:]
    copy.graph.node.extend(copies)
    return copy


def _round_weights(graph: Any, kept: set[str]) -> None:  # noqa: ANN401
    exact = {name for node in graph.node if node.name in kept for name in node.input}
    for item in graph.initializer:
        if item.data_type == _FLOAT and item.name not in exact:
            with np.errstate(over="ignore"):
                rounded = numpy_helper.to_array(item).astype(np.float16).astype(np.float32)
            item.CopyFrom(numpy_helper.from_array(rounded, item.name))


def _rounding(source: str, result: str) -> list[Any]:
    half = f"{source}/half"
    return [
        helper.make_node("Cast", [source], [half], name=f"{source}/down", to=TensorProto.FLOAT16),
        helper.make_node("Cast", [half], [result], name=f"{source}/up", to=_FLOAT),
    ]


def _by_error_added(model: Any, kept: set[str], taken: _Samples) -> list[str]:  # noqa: ANN401
    """Nodes, those first whose results are farther off than what they were given."""
    errors: dict[str, float] = {}
    for exact, rounded in zip(observed(model, taken), observed(emulated(model, kept), taken), strict=True):
        for name in exact.keys() & rounded.keys():
            errors[name] = max(errors.get(name, 0.0), _difference(rounded[name], exact[name]))
    added = {
        node.name: max((errors.get(name, 0.0) for name in node.output), default=0.0)
        - max((errors.get(name, 0.0) for name in node.input), default=0.0)
        for node in model.graph.node
    }
    return sorted(added, key=lambda name: -added[name])


def _answers(model: Any, names: Sequence[str], taken: _Samples) -> list[AnyArray]:  # noqa: ANN401
    """All samples' answers, one output after the other."""
    session = float_session(model.SerializeToString())
    return [answer for sample in taken for answer in session.run(list(names), dict(sample))]


def _difference(got: AnyArray, exact: AnyArray) -> float:
    """The greatest, relative to the greatest exact value or 1; infinite where there is no value."""
    if not exact.size:
        return 0.0
    difference = float(np.abs(got.astype(np.float64) - exact).max())
    return difference / max(1.0, float(np.abs(exact).max())) if np.isfinite(difference) else np.inf
