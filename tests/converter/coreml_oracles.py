"""What the reference evaluator is held against: ONNX Runtime, asked one operation at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from converter.coreml_reference.arguments import Arguments
from converter.coreml_reference.datatypes import Array
from converter.coreml_reference.operations import OPERATIONS

__all__ = ["agree", "evaluated", "noise", "onnx_answers"]

_CLOSE = 2e-5
"""ONNX Runtime and TensorFlow compute in single precision."""

_OPSET = 20
_TYPES = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "b": TensorProto.BOOL}


def agree(got: Any, expected: Any) -> None:
    """Fail unless two tensors have one shape and are equal but for single precision's rounding."""
    assert np.shape(got) == np.shape(expected)
    np.testing.assert_allclose(got, expected, rtol=_CLOSE, atol=_CLOSE)


def noise(*shape: int, seed: int = 0) -> Array:
    """Normal numbers in single precision."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def evaluated(kind: str, **arguments: Any) -> Any:
    """One operation's result, before it is rounded; lists are lists of tensors where they hold arrays."""
    values = {
        name: tuple(value) if _is_tensors(value) else (np.asarray(value),)
        for name, value in arguments.items()
        if value is not None
    }
    return OPERATIONS[kind](Arguments(kind, values))


def onnx_answers(kind: str, inputs: Mapping[str, Array], outputs: int = 1, **attributes: Any) -> list[Array]:
    """What ONNX Runtime answers; an input called `_…` is left out."""
    given = {name: value for name, value in inputs.items() if not name.startswith("_")}
    results = [f"result{place}" for place in range(outputs)]
    names = ["" if name.startswith("_") else name for name in inputs]
    node = helper.make_node(kind, names, results, **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(name, _TYPES[v.dtype.kind], v.shape) for name, v in given.items()],
        [helper.make_empty_tensor_value_info(name) for name in results],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    answers: list[Array] = session.run(None, given)
    return answers


def _is_tensors(value: object) -> bool:
    return isinstance(value, Sequence) and any(isinstance(item, np.ndarray) for item in value)
