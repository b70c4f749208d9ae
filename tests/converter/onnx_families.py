"""Small ONNX models of every kind a phone runs, by name, and what ONNX Runtime answers for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.converter.onnx_models import Graph, answers, cnn, encoder, mlp, mobile, recurrent

__all__ = ["MODELS", "assert_agree", "write_model"]


def _stateful(kind: str, direction: str) -> Any:
    """Initial states, and the last state as an output."""
    graph = Graph({"x": (6, 1, 3)})
    both, gates = (2 if direction == "bidirectional" else 1), {"LSTM": 4, "GRU": 3, "RNN": 1}[kind] * 4
    weights = graph.weight(both, gates, 3, scale=0.7), graph.weight(both, gates, 4, scale=0.7)
    states = [graph.weight(both, 1, 4, scale=1.0) for _ in range(2 if kind == "LSTM" else 1)]
    graph.add(kind, "x", *weights, "", "", *states, hidden_size=4, direction=direction, outputs=2)
    last = graph.nodes[-1].output[1]
    return graph.model({"y": (last, (both, 1, 4))})


def _two_answers() -> Any:
    """An answer that is an input of another node, one that is a constant's sum, and one that is a Split's."""
    graph = Graph({"x": (1, 6)})
    hidden = graph.add("Relu", "x")
    graph.add("Split", hidden, graph.constant(np.array([2, 4])), axis=1, outputs=2)
    left, right = graph.nodes[-1].output
    return graph.model({"a": (hidden, (1, 6)), "b": (right, (1, 4)), "c": (left, (1, 2))})


MODELS: dict[str, Callable[[], Any]] = {
    "cnn": partial(cnn, 1),
    "cnn-any-batch": cnn,
    "cnn-opset-13": partial(cnn, 1, opset=13),
    "mobile": mobile,
    "mlp": mlp,
    "mlp-opset-21": partial(mlp, opset=21),
    "encoder": encoder,
    **{
        f"{kind}-{direction}": partial(recurrent, kind, direction)
        for kind in ("LSTM", "GRU", "RNN")
        for direction in ("forward", "reverse", "bidirectional")
    },
    **{f"{kind}-states": partial(_stateful, kind, "bidirectional") for kind in ("LSTM", "GRU", "RNN")},
    "answers": _two_answers,
}


def write_model(path: Path, model: Any) -> None:
    """Write a model, inputs and the answers to them, as `answering` describes."""
    onnx.save(model, path)
    item = model.graph.input[0]
    shape = [dim.dim_value or 1 for dim in item.type.tensor_type.shape.dim]
    chance = np.random.default_rng(len(path.stem))
    whole = item.type.tensor_type.elem_type == onnx.TensorProto.INT64
    x = chance.integers(0, 11, shape) if whole else chance.normal(0, 1, shape).astype(np.float32)
    inputs: dict[str, Any] = {item.name: x}
    np.savez(path.with_suffix(".inputs.npz"), **inputs)
    np.savez(path.with_suffix(".expected.npz"), *answers(model, {item.name: x}))


def assert_agree(folder: Path, name: str, *, within: float) -> None:
    """What was answered is what the source's own framework answers."""
    with np.load(folder / f"{name}.expected.npz") as archive:
        expected = [archive[key] for key in archive.files]
    with np.load(folder / f"{name}.outputs.npz") as archive:
        got = [archive[key] for key in archive.files]
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= within
