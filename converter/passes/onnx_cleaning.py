"""Simplifies an ONNX graph without changing what it computes: constants are folded, no-ops removed.

Operators are computed with onnx's own reference implementation, so the result does not depend on the
host's instruction set, and they stay standard operators, which an optimiser's fused ones are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from converter.errors import SourceError
from converter.passes.onnx_graphs import attribute_of, captured_names, subgraphs_of
from converter.passes.onnx_signature import dims_of

__all__ = ["folded", "shapes_of", "with_input_shapes"]

_ROUNDS = 20
_RANDOM = (
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial",
)  # fmt: skip
_KEPT = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
"""Folding them would turn small weights into large ones."""
_GROWTH_BYTES = 2**20
_LINE = 200


def with_input_shapes(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:  # noqa: ANN401
    """Set the shapes of a graph's inputs, −1 for any length, and forget what followed from others."""
    for item in model.graph.input:
        if item.name in shapes:
            elem_type = item.type.tensor_type.elem_type
            item.CopyFrom(value_info(item.name, elem_type, shapes[item.name]))
    del model.graph.value_info[:]
    for item in model.graph.output:
        elem_type = item.type.tensor_type.elem_type
        item.CopyFrom(onnx.helper.make_tensor_value_info(item.name, elem_type, None))


def value_info(name: str, elem_type: int, shape: tuple[int, ...]) -> Any:  # noqa: ANN401
    """A tensor's description; the first dynamic dimension of every tensor is the same batch."""
    dims = [
        length if length >= 0 else "batch" if axis == 0 else f"{name}_{axis}"
        for axis, length in enumerate(shape)
    ]
    return onnx.helper.make_tensor_value_info(name, elem_type, dims)


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:  # noqa: ANN401
    """Shapes of tensors as far as they are known, −1 for a dynamic dimension."""
    graph = model.graph
    shapes = {item.name: tuple(item.dims) for item in graph.initializer}
    for item in (*graph.input, *graph.value_info, *graph.output):
        dims = dims_of(item)
        if dims is not None:
            shapes[item.name] = dims
    return shapes


def folded(model: Any) -> Any:  # noqa: ANN401
    """The simplified model, with the shapes that are known in its `value_info`.

    Raises:
        SourceError: Shapes within the graph contradict each other.
    """
    for _ in range(_ROUNDS):
        model = _inferred(model)
        if not _Folding(model).apply():
            break
    return _inferred(model)


def _inferred(model: Any) -> Any:  # noqa: ANN401
    try:
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise SourceError(f"the model's shapes do not fit together: {lines[0][:_LINE]}") from error


class _Folding:
    """One walk over a graph, in place."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        self._model = model
        self._graph = model.graph
        self._shapes = shapes_of(model)
        self._tensors = {item.name: item for item in self._graph.initializer}
        self._types = {
            item.name: item.type.tensor_type.elem_type
            for item in (*self._graph.input, *self._graph.value_info)
        }
        self._arrays: dict[str, Any] = {}
        self._renamed: dict[str, str] = {}
        self._answers = {item.name for item in self._graph.output}
        self._captured = set[str]().union(*map(captured_names, self._graph.node))

    def apply(self) -> bool:
        """Whether anything changed."""
        kept, changed = [], False
        for node in list(self._graph.node):
            node.input[:] = [self._renamed.get(name, name) for name in node.input]
            inlined = self._taken_branch(node)
            if inlined is not None:
                kept.extend(inlined)
                changed = True
            elif self._skipped(node) or self._known(node):
                changed = True
            else:
                kept.append(node)
        kept = self._needed(self._ended(kept))
        changed |= len(kept) < len(self._graph.node)
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        return changed

    def _ended(self, nodes: list[Any]) -> list[Any]:
        """Let the node that makes an answer give it its name, instead of an Identity after it."""
        makers = {name: node for node in nodes for name in node.output if name}
        readers = Counter(name for node in nodes for name in node.input)
        kept = []
        for node in nodes:
            source, answer = node.input[0] if node.input else "", node.output[0]
            superfluous = (
                node.op_type == "Identity"
                and answer in self._answers
                and source in makers
                and readers[source] == 1
                and source not in self._answers | self._captured
            )
            if superfluous:
                maker = makers[source]
                maker.output[:] = [answer if name == source else name for name in maker.output]
            else:
                kept.append(node)
        return kept

    def _needed(self, nodes: list[Any]) -> list[Any]:
        """Without what nobody reads."""
        read, kept = set(self._answers), []
        for node in reversed(nodes):
            if read.intersection(node.output):
                read.update(node.input, captured_names(node))
                kept.append(node)
        used = [item for item in self._graph.initializer if item.name in read]
        if len(used) < len(self._graph.initializer):
            copies = [onnx.TensorProto.FromString(item.SerializeToString()) for item in used]
            del self._graph.initializer[:]
            self._graph.initializer.extend(copies)
        return kept[::-1]

    def _skipped(self, node: Any) -> bool:  # noqa: ANN401
        """Read the input of a node that changes nothing instead of its output."""
        if not self._changes_nothing(node):
            return False
        source, result = node.input[0], node.output[0]
        if self._captured.intersection((source, result)):
            return False
        if result in self._answers:
            return False
        self._renamed[result] = source
        return True

    def _changes_nothing(self, node: Any) -> bool:  # noqa: ANN401
        if node.domain not in ("", "ai.onnx"):
            return False
        alone = not any(node.output[1:])
        if node.op_type == "Identity":
            return True
        if node.op_type == "Dropout":
            training = node.input[2] if len(node.input) > 2 else ""  # noqa: PLR2004 - data, ratio, training
            known = self._value(training) if training else np.zeros(1)
            return bool(alone and known is not None and not known.any())
        if node.op_type == "Cast":
            return bool(self._types.get(node.input[0]) == attribute_of(node, "to"))
        return False

    def _taken_branch(self, node: Any) -> list[Any] | None:  # noqa: ANN401
        """The nodes of the branch an If with a known condition takes."""
        if node.op_type != "If" or self._value(node.input[0]) is None:
            return None
        taken = bool(self._value(node.input[0]).reshape(-1)[0])
        branch = attribute_of(node, "then_branch" if taken else "else_branch")
        self._graph.initializer.extend(branch.initializer)
        results = zip(branch.output, node.output, strict=True)
        ends = [onnx.helper.make_node("Identity", [item.name], [name]) for item, name in results]
        return [*branch.node, *ends]

    def _known(self, node: Any) -> bool:  # noqa: ANN401
        """Replace a node whose answer is known by that answer."""
        if self._answers.intersection(node.output) or node.domain not in ("", "ai.onnx"):
            return False
        values = self._values(node)
        if values is None:
            return False
        for name, value in zip(node.output, values, strict=False):
            if name:
                tensor = numpy_helper.from_array(np.asarray(value), name)
                self._graph.initializer.append(tensor)
                self._tensors[name] = tensor
        return True

    def _values(self, node: Any) -> list[Any] | None:  # noqa: ANN401
        if node.op_type == "Constant":
            return list(ReferenceEvaluator(node).run(None, {}))
        if node.op_type in ("Shape", "Size"):
            return self._size(node)
        if node.op_type in (*_RANDOM, *_KEPT) or any(True for _ in subgraphs_of(node)):
            return None
        inputs = {name: self._value(name) for name in node.input if name}
        if any(value is None for value in inputs.values()):
            return None
        return self._computed(node, inputs)

    def _computed(self, node: Any, inputs: Mapping[str, Any]) -> list[Any] | None:  # noqa: ANN401
        try:
            results = ReferenceEvaluator(_in_model(node, self._model, inputs)).run(None, dict(inputs))
        except Exception:  # noqa: BLE001 - what the reference cannot compute stays in the graph
            return None
        if not all(isinstance(value, (np.ndarray, np.generic)) for value in results):
            return None
        grown = sum(value.nbytes for value in results) - sum(value.nbytes for value in inputs.values())
        return None if grown > _GROWTH_BYTES else list(results)

    def _size(self, node: Any) -> list[Any] | None:  # noqa: ANN401
        shape = self._shapes.get(node.input[0])
        if shape is None:
            return None
        if node.op_type == "Shape":
            shape = shape[slice(attribute_of(node, "start", 0), attribute_of(node, "end"))]
        if any(length < 0 for length in shape):
            return None
        return [np.array(shape if node.op_type == "Shape" else np.prod(shape), dtype=np.int64)]

    def _value(self, name: str) -> Any:  # noqa: ANN401
        if name not in self._tensors:
            return None
        if name not in self._arrays:
            self._arrays[name] = numpy_helper.to_array(self._tensors[name])
        return self._arrays[name]


def _in_model(node: Any, model: Any, inputs: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """A model of one node, of the same opsets."""
    fed = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in inputs.items()
    ]
    made = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "one", fed, made)
    return onnx.helper.make_model(graph, opset_imports=model.opset_import)
