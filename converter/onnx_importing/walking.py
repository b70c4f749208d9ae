"""Walks an ONNX graph of fixed shapes, and holds each result against what ONNX says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import onnx
from onnx import TensorProto, helper, numpy_helper

from converter.errors import OperatorRefusedError
from converter.onnx_importing.node import Node, Stated, Value, dims, type_name

__all__ = ["WHOLE", "Importer", "check_inputs"]

_STANDARD = ("", "ai.onnx")
_SHOWN = 3
_LINE = 300
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
WHOLE = (
    TensorProto.BOOL, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16,
    TensorProto.INT32, TensorProto.INT64,
)  # fmt: skip
"""Computed in 32 bits; floats of eight bits and integers beyond 32 have no equal."""

N = TypeVar("N", bound=Node)


class Importer(Generic[N]):
    """A table of functions, and what the values they make may be."""

    def __init__(
        self,
        operators: Mapping[str, Callable[[N], Value | Sequence[Value]]],
        node: Callable[..., N],
        *,
        target: str,
        is_float: Callable[[Value], bool],
        most_axes: int,
    ) -> None:
        """Hold the table; `target` names what is built, `most_axes` is what a tensor there may have."""
        self._operators = operators
        self._target = target
        self._node = node
        self._is_float = is_float
        self._most_axes = most_axes

    def check_supported(self, model: Any) -> None:  # noqa: ANN401 - onnx publishes no types
        """Refuse, before anything is built, what the table has no function for.

        Raises:
            OperatorRefusedError: Naming every operator, and nodes it occurs at; or a type without an equal.
        """
        unknown: dict[str, list[str]] = {}
        for node in model.graph.node:
            standard = node.domain in _STANDARD
            if not standard or node.op_type not in self._operators:
                name = node.op_type if standard else f"{node.domain}.{node.op_type}"
                unknown.setdefault(name, []).append(node.name or node.output[0])
        if unknown:
            listed = "; ".join(f"op {name} ({_nodes(places)})" for name, places in sorted(unknown.items()))
            raise OperatorRefusedError(f"cannot convert to {self._target}: {listed}")
        self._check_types(model.graph)

    def run(self, graph: Any, given: Mapping[str, Value]) -> dict[str, Value]:  # noqa: ANN401
        """Every value of a graph by its name, from those of its inputs and initializers.

        Raises:
            OperatorRefusedError: A use of an operator that is not known, or whose result would be wrong.
        """
        values = dict(given)
        described = {item.name: item for item in (*graph.value_info, *graph.output)}
        for proto in graph.node:
            self._build(proto, values, described)
        return values

    def _check_types(self, graph: Any) -> None:  # noqa: ANN401
        described = [(item.name, item.type.tensor_type.elem_type) for item in (*graph.input, *graph.output)]
        for name, elem_type in (*described, *((item.name, item.data_type) for item in graph.initializer)):
            if elem_type not in (*_FLOATS, *WHOLE):
                raise OperatorRefusedError(
                    f"cannot convert to {self._target}: {name} is of type {type_name(elem_type)}"
                )

    def _build(self, proto: Any, values: dict[str, Value], described: Mapping[str, Any]) -> None:  # noqa: ANN401
        node = self._node(
            op_type=proto.op_type,
            name=proto.name,
            attributes={item.name: _attribute(item) for item in proto.attribute},
            inputs=[values[name] if name else None for name in proto.input],
            stated=[_stated(described.get(name)) for name in proto.output],
            outputs=list(proto.output),
        )
        try:
            made = self._operators[proto.op_type](node)
        except OperatorRefusedError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the framework raises, this use has no equal
            lines = str(error).strip().splitlines() or [type(error).__name__]
            node.refuse(lines[0][:_LINE])
        results = list(made) if isinstance(made, (list, tuple)) else [made]
        for place, name in enumerate(node.outputs):
            if not name:
                continue
            if place >= len(results):
                node.refuse(f"output {place} is used")
            self._check(node, results[place], node.stated[place])
            values[name] = results[place]

    def _check(self, node: N, value: Value, stated: Stated) -> None:
        """A result must be what ONNX says it is: a wrong shape here would be a wrong model."""
        own, kind = dims(value), stated.elem_type
        if len(own) > self._most_axes:
            node.refuse(f"a tensor of {len(own)} axes, {self._target} has at most {self._most_axes}")
        if 0 in own:
            node.refuse("a tensor of no elements")
        if stated.shape is not None and stated.shape != own:
            node.refuse(f"it would have shape {list(own)} instead of {list(stated.shape)}")
        if kind and kind not in (*_FLOATS, *WHOLE):
            node.refuse(f"it makes {type_name(kind)}")
        if kind and (kind in _FLOATS) != self._is_float(value):
            node.refuse(f"it would be of another type than {type_name(kind)}")


def check_inputs(graph: Any, target: str) -> None:  # noqa: ANN401
    """Refuse inputs of no fixed shape, or of no elements.

    Raises:
        OperatorRefusedError: Naming the input.
    """
    for item in graph.input:
        shape = item.type.tensor_type.shape.dim
        if any(not dim.HasField("dim_value") for dim in shape):
            raise OperatorRefusedError(f"cannot convert to {target}: input {item.name} has no fixed shape")
        if any(dim.dim_value == 0 for dim in shape):
            raise OperatorRefusedError(f"cannot convert to {target}: input {item.name} has no elements")


def _nodes(places: Sequence[str]) -> str:
    shown = ", ".join(places[:_SHOWN]) + (", …" if len(places) > _SHOWN else "")
    return f"{len(places)} node{'s' if len(places) > 1 else ''}: {shown}"


def _stated(item: Any) -> Stated:  # noqa: ANN401
    if item is None:
        return Stated(shape=None, elem_type=0)
    tensor = item.type.tensor_type
    fixed = tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)
    shape = tuple(int(dim.dim_value) for dim in tensor.shape.dim) if fixed else None
    return Stated(shape=shape, elem_type=tensor.elem_type)


def _attribute(item: Any) -> Any:  # noqa: ANN401
    value = helper.get_attribute_value(item)
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
