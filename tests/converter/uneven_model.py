"""A digits classifier that eight bits hurt, for a reason real networks have.

A ReLU layer computes the same whatever its channels are scaled by, if the next layer's weights are divided
by it. Training leaves such scales uneven (Nagel et al., "Data-free quantization through weight equalization
and bias correction", 2019); here they are made so by hand, on one of two hidden layers. One range for the
whole tensor then leaves the small channels no steps. In floats nothing changes.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from tests.converter.recipes import write_tiny

__all__ = ["write_uneven"]

_SAMPLES = 1000
_HIDDEN = 40


def write_uneven(folder: Path, asked: str) -> Path:
    """Train it, and write it with its data and a recipe that ends in the tables `asked`, from `[goal]` on."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    images, labels = digits.data.astype(np.float32) / 16, digits.target.astype(np.int64)
    source = folder / "uneven.onnx"
    onnx.save(_model(images[_SAMPLES:], labels[_SAMPLES:]), source)  # what judges was not trained on
    recipe = write_tiny(
        folder, Path(source.name), images[:_SAMPLES], labels[:_SAMPLES], framework="onnx", shape=(-1, 64),
        classes=10,
    )  # fmt: skip
    recipe.write_text(recipe.read_text().partition("[goal]")[0] + asked)
    return recipe


def _model(images: Any, labels: Any) -> Any:
    network = MLPClassifier((_HIDDEN, _HIDDEN), max_iter=60, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sixty rounds are enough, whatever scikit-learn thinks
        network.fit(images, labels)
    weights = [item.astype(np.float32) for item in network.coefs_]
    biases = [item.astype(np.float32) for item in network.intercepts_]
    scales = np.geomspace(0.01, 100.0, _HIDDEN, dtype=np.float32)
    weights[1], biases[1] = weights[1] * scales, biases[1] * scales
    weights[2] = weights[2] / scales[:, None]
    return _graph(weights, biases)


def _graph(weights: list[Any], biases: list[Any]) -> Any:
    nodes, constants, name = [], [], "x"
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        constants += [
            numpy_helper.from_array(weight, f"w{index}"),
            numpy_helper.from_array(bias, f"b{index}"),
        ]
        made = f"h{index}"
        nodes.append(helper.make_node("Gemm", [name, f"w{index}", f"b{index}"], [made], name=f"dense{index}"))
        last = index == len(weights) - 1
        name = "y" if last else f"r{index}"
        nodes.append(helper.make_node("Softmax" if last else "Relu", [made], [name]))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "uneven",
        [value("x", TensorProto.FLOAT, ["n", 64])],
        [value("y", TensorProto.FLOAT, ["n", 10])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
