"""Equal graphs are equal bytes, whatever an exporter called its tensors."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from converter.passes.onnx_file import canonical, describe


def _model(seed: int) -> Any:
    """Two branches and a sum; nodes, names, attributes and initializers in a random order."""
    chance = random.Random(seed)  # noqa: S311 - an order, not a secret
    names = {
        name: f"{name}_{chance.randrange(10**9)}" for name in ("a", "b", "left", "right", "n1", "n2", "n3")
    }
    nodes = [
        helper.make_node("Mul", ["x", names["a"]], [names["left"]], name=names["n1"]),
        helper.make_node("Add", ["x", names["b"]], [names["right"]], name=names["n2"]),
    ]
    initializers = [
        numpy_helper.from_array(np.array([2, 3], np.float32), names["a"]),
        numpy_helper.from_array(np.array([5, 7], np.float32), names["b"]),
    ]
    chance.shuffle(nodes)
    chance.shuffle(initializers)
    nodes.append(helper.make_node("Concat", [names["left"], names["right"]], ["y"], axis=0, name=names["n3"]))
    graph = helper.make_graph(
        nodes,
        f"graph{seed}",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    model.producer_name = f"exporter {seed}"
    return model


def test_equal_graphs_are_equal_bytes() -> None:
    assert len({canonical(_model(seed)) for seed in range(20)}) == 1


def test_the_canonical_graph_computes_the_same() -> None:
    session = onnxruntime.InferenceSession(canonical(_model(1)), providers=["CPUExecutionProvider"])
    (answer,) = session.run(["y"], {"x": np.array([10, 20], np.float32)})
    np.testing.assert_array_equal(answer, np.array([20, 60, 15, 27], np.float32))


def test_a_canonical_graph_stays_as_it_is() -> None:
    content = canonical(_model(1))
    assert canonical(onnx.load_from_string(content)) == content


def test_unused_weights_are_dropped() -> None:
    model = _model(1)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1000, np.float32), "unused"))
    assert canonical(model) == canonical(_model(2))


def test_a_cycle_is_refused() -> None:
    model = _model(1)
    model.graph.node[0].input[0] = model.graph.node[2].output[0]
    with pytest.raises(ValueError, match="cycle"):
        canonical(model)


def test_the_description_states_names_and_versions() -> None:
    facts = describe(_model(1))
    assert facts["inputs"] == {"x": "x"}
    assert facts["outputs"] == {"y": "y"}
    assert (facts["opset"], facts["ir"], facts["weighted"]) == (15, 8, 0)
