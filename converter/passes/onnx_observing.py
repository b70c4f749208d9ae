"""Runs an ONNX graph with every float tensor as an answer, sample by sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from edge_runtime.port import AnyArray

__all__ = ["float_session", "observed"]

_AT_ONCE = 64
"""Tensors kept of one run: all of a large graph's at once would be its whole activation memory and more."""


def float_session(content: bytes) -> Any:  # noqa: ANN401 - onnxruntime is untyped
    """A session on one thread, as devices are measured, that computes node by node as written."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def observed(
    model: Any,  # noqa: ANN401 - onnx publishes no types
    samples: Iterable[Mapping[str, AnyArray]],
) -> Iterator[dict[str, AnyArray]]:
    """The float tensors of each sample by name, the inputs' too, as FP32."""
    samples = list(samples)
    names = [name for node in model.graph.node for name in node.output if name]
    answers = {item.name for item in model.graph.output}
    sessions = []
    for start in range(0, len(names), _AT_ONCE):
        wanted = names[start : start + _AT_ONCE]
        opened = onnx.ModelProto.FromString(model.SerializeToString())
        opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in answers)
        sessions.append((wanted, float_session(opened.SerializeToString())))
    for sample in samples:
        tensors = {name: np.asarray(value) for name, value in sample.items()}
        for wanted, session in sessions:
            tensors.update(zip(wanted, session.run(wanted, dict(sample)), strict=True))
        yield {
            name: value.astype(np.float32)
            for name, value in tensors.items()
            if isinstance(value, np.ndarray) and value.dtype.kind == "f"
        }
