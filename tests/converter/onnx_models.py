"""ONNX models as exporters write them, with random weights, and recipes and data to convert them with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from tests.converter.recipes import write_tiny

__all__ = [
    "CLASSES",
    "IMAGES",
    "SCALED",
    "Graph",
    "answers",
    "cnn",
    "encoder",
    "image_case",
    "mlp",
    "mobile",
    "recurrent",
    "write_case",
]

CLASSES = 4
IMAGES = np.random.default_rng(11).integers(0, 256, (60, 8, 6, 3), dtype=np.uint8)
"""Pixels in NHWC, with unequal sides."""
SCALED = (IMAGES.astype(np.float32) * np.float32(1 / 64) - 2).transpose(0, 3, 1, 2)
"""The same as `cnn` takes them."""
Shape = tuple[int | str, ...]


class Graph:
    """A graph under construction; every method gives the name of what it made."""

    def __init__(
        self, inputs: Mapping[str, Shape], *, opset: int = 17, elem_type: int = TensorProto.FLOAT
    ) -> None:
        self.chance = np.random.default_rng(5)
        self.opset = opset
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.inputs = [helper.make_tensor_value_info(name, elem_type, dims) for name, dims in inputs.items()]

    def weight(self, *shape: int, scale: float | None = None) -> str:
        spread = scale if scale is not None else max(1, math.prod(shape[1:])) ** -0.5
        return self.constant(self.chance.normal(0, spread, shape).astype(np.float32))

    def constant(self, value: Any) -> str:
        name = f"weights.{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        made = [f"/{operator}_{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, made, **attributes))
        return made[0]

    def model(self, outputs: Mapping[str, tuple[str, Shape]], *, domains: Iterable[str] = ()) -> Any:
        """The model; outputs are renamed by Identity nodes."""
        found = []
        for name, (source, dims) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [source], [name]))
            found.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
        graph = helper.make_graph(self.nodes, "exported", self.inputs, found, self.weights)
        imports = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(name, 1) for name in domains)]
        return helper.make_model(graph, opset_imports=imports, producer_name="tests")


def cnn(batch: int | str = "n", *, opset: int = 17) -> Any:
    """Channels first, of unequal height, width and channels, ending as PyTorch's exports do."""
    graph = Graph({"x": (batch, 3, 8, 6)}, opset=opset)
    tensor = graph.add("Conv", "x", graph.weight(8, 3, 3, 3), graph.weight(8), pads=[1, 1, 1, 1])
    tensor = graph.add("Relu", tensor)
    tensor = graph.add("MaxPool", tensor, kernel_shape=[2, 2], strides=[2, 2])
    tensor = graph.add("Conv", tensor, graph.weight(5, 8, 3, 2), auto_pad="SAME_UPPER", strides=[2, 1])
    scale, shift = graph.constant(np.array([1, 2, 0.5, 1, 1], np.float32)), graph.weight(5)
    variance = graph.constant(np.array([1, 0.5, 2, 1, 1], np.float32))
    tensor = graph.add("BatchNormalization", tensor, scale, shift, graph.weight(5), variance)
    size = graph.add("Shape", tensor)
    first = graph.add("Gather", size, graph.constant(np.int64(0)), axis=0)
    kept = graph.add("Unsqueeze", first, graph.constant(np.array([0], np.int64)))
    target = graph.add("Concat", kept, graph.constant(np.array([-1], np.int64)), axis=0)
    tensor = graph.add("Reshape", tensor, target)
    tensor = graph.add("Gemm", tensor, graph.weight(CLASSES, 30), graph.weight(CLASSES), transB=1)
    return graph.model({"y": (graph.add("Softmax", tensor, axis=-1), (batch, CLASSES))})


def mobile(batch: int | str = "n") -> Any:
    """Inverted residuals with depthwise convolutions, ReLU6 and hard-swish, as MobileNet has them."""
    graph = Graph({"x": (batch, 3, 16, 12)})
    bounds = graph.constant(np.float32(0)), graph.constant(np.float32(6))
    tensor = graph.add("Conv", "x", graph.weight(8, 3, 3, 3), strides=[2, 2], pads=[0, 0, 1, 1])
    tensor = graph.add("HardSwish", tensor)
    for _ in range(2):
        wide = graph.add("Clip", graph.add("Conv", tensor, graph.weight(16, 8, 1, 1)), *bounds)
        deep = graph.add("Conv", wide, graph.weight(16, 1, 3, 3), group=16, pads=[1, 1, 1, 1])
        deep = graph.add("Clip", deep, *bounds)
        tensor = graph.add("Add", tensor, graph.add("Conv", deep, graph.weight(8, 16, 1, 1), graph.weight(8)))
    tensor = graph.add("GlobalAveragePool", tensor)
    gate = graph.add("HardSigmoid", graph.add("Conv", tensor, graph.weight(8, 8, 1, 1)), alpha=1 / 6)
    tensor = graph.add("Flatten", graph.add("Mul", tensor, gate))
    tensor = graph.add("Gemm", tensor, graph.weight(8, CLASSES, scale=2.0))
    return graph.model({"y": (graph.add("Softmax", tensor, axis=1), (batch, CLASSES))})


def mlp(batch: int | str = "n", *, opset: int = 17) -> Any:
    graph = Graph({"x": (batch, 7)}, opset=opset)
    tensor = graph.add("MatMul", "x", graph.weight(7, 9, scale=1.0))
    tensor = graph.add("LeakyRelu", graph.add("Add", tensor, graph.weight(9)), alpha=0.2)
    tensor = graph.add("Gemm", tensor, graph.weight(9, CLASSES, scale=1.0), graph.weight(CLASSES))
    return graph.model({"y": (graph.add("Softmax", tensor), (batch, CLASSES))})


def encoder(batch: int | str = "n", *, length: int = 5, width: int = 8, heads: int = 2) -> Any:
    """One layer of a transformer: attention over token ids, LayerNormalization and GELU spelt out."""
    graph = Graph({"x": (batch, length)}, elem_type=TensorProto.INT64)
    tensor = graph.add("Gather", graph.weight(11, width, scale=1.0), "x")
    tensor = graph.add("Add", tensor, graph.weight(length, width))
    query, key, value = (_heads(graph, tensor, width, heads) for _ in range(3))
    scores = graph.add("MatMul", query, graph.add("Transpose", key, perm=[0, 1, 3, 2]))
    scores = graph.add("Div", scores, graph.constant(np.float32(np.sqrt(width // heads))))
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value)
    mixed = graph.add("Transpose", mixed, perm=[0, 2, 1, 3])
    mixed = graph.add("Reshape", mixed, graph.constant(np.array([0, 0, width], np.int64)))
    tensor = _normal(graph, graph.add("Add", tensor, mixed), width)
    wide = graph.add("Add", graph.add("MatMul", tensor, graph.weight(width, 16)), graph.weight(16))
    half = graph.add("Erf", graph.add("Div", wide, graph.constant(np.float32(np.sqrt(2)))))
    wide = graph.add("Mul", wide, graph.add("Add", half, graph.constant(np.float32(1))))
    wide = graph.add("Mul", wide, graph.constant(np.float32(0.5)))
    tensor = _normal(
        graph, graph.add("Add", tensor, graph.add("MatMul", wide, graph.weight(16, width))), width
    )
    tensor = graph.add("ReduceMean", tensor, axes=[1], keepdims=0)
    tensor = graph.add("Gemm", tensor, graph.weight(width, CLASSES, scale=1.0))
    return graph.model({"y": (graph.add("Softmax", tensor), (batch, CLASSES))})


def _heads(graph: Graph, tensor: str, width: int, heads: int) -> str:
    tensor = graph.add("Add", graph.add("MatMul", tensor, graph.weight(width, width)), graph.weight(width))
    tensor = graph.add("Reshape", tensor, graph.constant(np.array([0, 0, heads, width // heads], np.int64)))
    return graph.add("Transpose", tensor, perm=[0, 2, 1, 3])


def _normal(graph: Graph, tensor: str, width: int) -> str:
    scale = graph.constant(np.linspace(0.5, 1.5, width, dtype=np.float32))
    return graph.add("LayerNormalization", tensor, scale, graph.weight(width), axis=-1, epsilon=1e-5)


def recurrent(kind: str, direction: str, batch: int | str = "n") -> Any:
    """An LSTM, GRU or RNN over a sequence, batch first as Keras and PyTorch export it."""
    graph = Graph({"x": (batch, 6, 3)})
    hidden, both = 4, 2 if direction == "bidirectional" else 1
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind] * hidden
    weights = graph.weight(both, gates, 3, scale=0.7), graph.weight(both, gates, hidden, scale=0.7)
    tensor = graph.add("Transpose", "x", perm=[1, 0, 2])
    more: dict[str, Any] = {"linear_before_reset": 1} if kind == "GRU" else {}
    bias = graph.weight(both, 2 * gates, scale=0.3)
    tensor = graph.add(
        kind, tensor, *weights, bias, hidden_size=hidden, direction=direction, outputs=2, **more
    )
    tensor = graph.add("Transpose", tensor, perm=[2, 0, 1, 3])
    tensor = graph.add("Reshape", tensor, graph.constant(np.array([0, -1], np.int64)))
    tensor = graph.add("Gemm", tensor, graph.weight(6 * both * hidden, CLASSES, scale=1.0))
    return graph.model({"y": (graph.add("Softmax", tensor), (batch, CLASSES))})


def answers(model: Any, inputs: Mapping[str, Any]) -> list[Any]:
    """ONNX Runtime's."""
    content = model if isinstance(model, (str, bytes)) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(inputs)))


def write_case(
    folder: Path,
    model: Any,
    raw: Any,
    *,
    shape: Iterable[int],
    datatype: str = "FP32",
    fed: Any = None,
    layout: str = "",
    source: str = "",
    preprocessing: str = "",
    variants: Iterable[tuple[str, str]] = (("onnx", "fp32"),),
    max_drop: float = 0.05,
) -> Path:
    """Write model, data and recipe; labels are the model's own answers to `fed`, or to `raw`."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    fed = raw if fed is None else fed
    name = model.graph.input[0].name
    labels = np.concatenate([answers(model, {name: fed[row : row + 1]})[0] for row in range(len(fed))])
    return write_tiny(
        folder,
        Path("model.onnx"),
        raw,
        labels.argmax(axis=-1),
        framework="onnx",
        shape=tuple(shape),
        classes=CLASSES,
        datatype=datatype,
        layout=layout,
        extra=source,
        preprocessing=preprocessing,
        variants=variants,
        max_drop=max_drop,
    )


def image_case(folder: Path, variants: Iterable[tuple[str, str]]) -> Path:
    """`cnn`, channels first, by a recipe that hands it pixels: scaling and layout are the converter's."""
    return write_case(
        folder,
        cnn(),
        IMAGES,
        fed=SCALED,
        shape=(-1, 8, 6, 3),
        datatype="UINT8",
        layout="NHWC",
        source='layout = "NCHW"',
        preprocessing='{ operation = "affine", scale = 0.015625, offset = -2.0, by = "converter" }',
        variants=variants,
        max_drop=0.2,
    )
