"""Walks an ONNX graph of fixed shapes and builds the program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from coremltools.converters.mil.mil import Function, Program, types
from onnx import TensorProto, helper, numpy_helper

from converter.errors import OperatorRefusedError
from converter.onnx_to_mil.node import Node, Value, as_constant, dims, is_bool, is_float, mb
from converter.onnx_to_mil.table import OPERATORS

__all__ = ["check_supported", "program_of"]

_STANDARD = ("", "ai.onnx")
_MOST_AXES = 5
_SHOWN = 3
_LINE = 300
_WHOLE = (
    TensorProto.BOOL, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16,
    TensorProto.INT32, TensorProto.INT64,
)  # fmt: skip
"""Computed in 32 bits; floats of eight bits and integers beyond 32 have no equal."""
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)


def check_supported(model: Any) -> None:  # noqa: ANN401 - onnx publishes no types
    """Refuse, before anything is built, what the table has no function for.

    Raises:
        OperatorRefusedError: Naming every operator, and nodes it occurs at.
    """
    unknown: dict[str, list[str]] = {}
    for node in model.graph.node:
        standard = node.domain in _STANDARD
        if not standard or node.op_type not in OPERATORS:
            name = node.op_type if standard else f"{node.domain}.{node.op_type}"
            unknown.setdefault(name, []).append(node.name or node.output[0])
    if unknown:
        listed = "; ".join(f"op {name} ({_nodes(places)})" for name, places in sorted(unknown.items()))
        raise OperatorRefusedError(f"cannot convert to Core ML: {listed}")


def program_of(model: Any, *, opset_version: Any) -> Any:  # noqa: ANN401
    """The MIL program of a model.

    Args:
        model: Simplified, of fixed shapes that are all stated in its `value_info`.
        opset_version: Least operating system, as `coremltools.target` names it.

    Raises:
        OperatorRefusedError: An operator, or a use of one, that is not known.
    """
    check_supported(model)
    graph = model.graph
    _check_types(graph)
    placeholders = {item.name: _placeholder(item) for item in graph.input}
    program = Program()
    with Function(placeholders, opset_version=opset_version) as function:
        values: dict[str, Value] = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        described = {item.name: item for item in (*graph.value_info, *graph.output)}
        for item in graph.input:
            values[item.name] = _taken(function.inputs[item.name], item)
        for node in graph.node:
            _build(node, values, described)
        outputs = [_given(values[item.name], item.name) for item in graph.output]
        function.set_outputs(outputs)
        program.add_function("main", function)
    return program


def _check_types(graph: Any) -> None:  # noqa: ANN401
    described = ((item.name, item.type.tensor_type.elem_type) for item in (*graph.input, *graph.output))
    for name, elem_type in (*described, *((item.name, item.data_type) for item in graph.initializer)):
        if elem_type not in (*_FLOATS, *_WHOLE):
            kind = TensorProto.DataType.Name(elem_type)
            raise OperatorRefusedError(f"cannot convert to Core ML: {name} is of type {kind}")


def _nodes(places: Sequence[str]) -> str:
    shown = ", ".join(places[:_SHOWN]) + (", …" if len(places) > _SHOWN else "")
    return f"{len(places)} node{'s' if len(places) > 1 else ''}: {shown}"


def _placeholder(item: Any) -> Any:  # noqa: ANN401
    """An input: floats as floats, whole numbers and truth values as INT32, for there is no bool."""
    tensor = item.type.tensor_type
    shape = [int(dim.dim_value) for dim in tensor.shape.dim]
    if any(not dim.HasField("dim_value") for dim in tensor.shape.dim):
        raise OperatorRefusedError(f"cannot convert to Core ML: input {item.name} has no fixed shape")
    if 0 in shape:
        raise OperatorRefusedError(f"cannot convert to Core ML: input {item.name} has no elements")
    # Pixels are floats to Core ML, also those of an image.
    small = tensor.elem_type == TensorProto.UINT8
    return mb.placeholder(shape, dtype=types.fp32 if small or tensor.elem_type in _FLOATS else types.int32)


def _taken(value: Value, item: Any) -> Value:  # noqa: ANN401
    elem_type = item.type.tensor_type.elem_type
    if elem_type == TensorProto.BOOL:
        return mb.cast(x=value, dtype="bool")
    if elem_type == TensorProto.UINT8:
        return mb.cast(x=value, dtype="int32")
    return value


def _given(value: Value, name: str) -> Value:
    """An answer as an output of the program, which must come from an operation and be no bool."""
    value = as_constant(value)
    if is_bool(value):
        value = mb.cast(x=value, dtype="int32")
    if not dims(value):
        value = mb.expand_dims(x=value, axes=[0])
    return mb.identity(x=value, name=name)


def _build(proto: Any, values: dict[str, Value], described: Mapping[str, Any]) -> None:  # noqa: ANN401
    outputs = list(proto.output)
    tensors = [described[name].type.tensor_type if name in described else None for name in outputs]
    node = Node(
        op_type=proto.op_type,
        name=proto.name,
        attributes={item.name: _attribute(item) for item in proto.attribute},
        inputs=[values[name] if name else None for name in proto.input],
        shapes=[_shape(tensor) for tensor in tensors],
        elem_types=[tensor.elem_type if tensor is not None else 0 for tensor in tensors],
        outputs=outputs,
    )
    try:
        made = OPERATORS[proto.op_type](node)
    except OperatorRefusedError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever coremltools raises, this use has no equal
        lines = str(error).strip().splitlines() or [type(error).__name__]
        node.refuse(lines[0][:_LINE])
    results = list(made) if isinstance(made, (list, tuple)) else [made]
    for place, name in enumerate(outputs):
        if not name:
            continue
        if place >= len(results):
            node.refuse(f"output {place} is used")
        _check(node, results[place], place)
        values[name] = results[place]


def _check(node: Node, value: Value, place: int) -> None:
    """A result must be what ONNX says it is: a wrong shape here would be a wrong model."""
    own, stated = dims(value), node.shapes[place]
    if len(own) > _MOST_AXES:
        node.refuse(f"a tensor of {len(own)} axes, Core ML has at most {_MOST_AXES}")
    if 0 in own:
        node.refuse("a tensor of no elements")
    if stated is not None and stated != own:
        node.refuse(f"it would have shape {list(own)} instead of {list(stated)}")
    kind = node.elem_types[place]
    if kind and kind not in (*_FLOATS, *_WHOLE):
        node.refuse(f"it makes {TensorProto.DataType.Name(kind)}")
    if kind and (kind in _FLOATS) != is_float(value):
        node.refuse(f"it would be of another type than {TensorProto.DataType.Name(kind)}")


def _shape(tensor: Any) -> tuple[int, ...] | None:  # noqa: ANN401
    if tensor is None or not tensor.HasField("shape"):
        return None
    if any(not dim.HasField("dim_value") for dim in tensor.shape.dim):
        return None
    return tuple(int(dim.dim_value) for dim in tensor.shape.dim)


def _attribute(item: Any) -> Any:  # noqa: ANN401
    value = helper.get_attribute_value(item)
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
