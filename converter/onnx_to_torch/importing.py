"""Makes a module of an ONNX graph of fixed shapes; `forward` walks the graph."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from onnx import TensorProto, numpy_helper

from converter.errors import OperatorRefusedError
from converter.onnx_importing.node import type_name
from converter.onnx_importing.walking import Importer, check_inputs
from converter.onnx_to_torch.node import Node, Value, as_tensor, is_float
from converter.onnx_to_torch.table import OPERATORS

__all__ = ["GraphModule", "module_of"]

_MOST_AXES = 6
_BOUNDARY = {
    TensorProto.FLOAT: torch.float32, TensorProto.DOUBLE: torch.float64, TensorProto.FLOAT16: torch.float16,
    TensorProto.BOOL: torch.bool, TensorProto.INT8: torch.int8, TensorProto.UINT8: torch.uint8,
    TensorProto.INT16: torch.int16, TensorProto.INT32: torch.int32, TensorProto.INT64: torch.int64,
}  # fmt: skip
"""Types of inputs and outputs; inside there are float32, int32 and bool."""


class GraphModule(torch.nn.Module):
    """Computes an ONNX graph, inputs and outputs in the graph's order."""

    def __init__(self, graph: Any) -> None:  # noqa: ANN401 - onnx publishes no types
        """Take the weights of a graph that `Importer.check_supported` accepted."""
        super().__init__()
        self._graph = graph
        self._known: dict[str, Value] = {}
        self._weights: dict[str, str] = {}
        for place, item in enumerate(graph.initializer):
            array = numpy_helper.to_array(item)
            self._known[item.name] = array
            if is_float(array):  # whole numbers are shapes and places mostly, and may be beyond 32 bits
                self._weights[item.name] = f"weight_{place}"
                self.register_buffer(f"weight_{place}", as_tensor(array))
        self.eval()

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The graph's outputs.

        Raises:
            OperatorRefusedError: A use of an operator that is not known, or whose result would be wrong.
        """
        weights = {id(self._known[name]): self.get_buffer(buffer) for name, buffer in self._weights.items()}
        values = dict(self._known)
        for item, tensor in zip(self._graph.input, inputs, strict=True):
            values[item.name] = _taken(tensor)
        values = _importer(weights).run(self._graph, values)
        return tuple(_given(values[item.name], item) for item in self._graph.output)

    def example(self) -> tuple[torch.Tensor, ...]:
        """Inputs of the graph's shapes and types, all zeros."""
        return tuple(
            torch.zeros([dim.dim_value for dim in item.type.tensor_type.shape.dim], dtype=_type(item))
            for item in self._graph.input
        )


def module_of(model: Any) -> GraphModule:  # noqa: ANN401
    """The module of a model.

    Args:
        model: Simplified, of fixed shapes that are all stated in its `value_info`.

    Raises:
        OperatorRefusedError: An operator, or a use of one, that is not known. All are found here, by
            computing the graph once.
    """
    _importer({}).check_supported(model)
    check_inputs(model.graph, Node.target)
    for item in (*model.graph.input, *model.graph.output):
        elem_type = item.type.tensor_type.elem_type
        if elem_type not in _BOUNDARY:
            raise OperatorRefusedError(
                f"cannot convert to {Node.target}: {item.name} is of type {type_name(elem_type)}"
            )
    module = GraphModule(model.graph)
    with torch.no_grad():
        module(*module.example())
    return module


def _importer(weights: Mapping[int, torch.Tensor]) -> Importer[Node]:
    return Importer(
        OPERATORS, partial(Node, weights), target=Node.target, is_float=is_float, most_axes=_MOST_AXES
    )


def _taken(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype == torch.bool:
        return tensor
    return tensor.to(torch.float32 if tensor.dtype.is_floating_point else torch.int32)


def _given(value: Value, item: Any) -> torch.Tensor:  # noqa: ANN401
    return as_tensor(value).to(_type(item))


def _type(item: Any) -> torch.dtype:  # noqa: ANN401
    return _BOUNDARY[item.type.tensor_type.elem_type]
