"""Builds the program of an ONNX graph of fixed shapes."""

from __future__ import annotations

from typing import Any

from coremltools.converters.mil.mil import Function, Program, types
from onnx import TensorProto, numpy_helper

from converter.onnx_importing.node import FLOATS
from converter.onnx_importing.walking import Importer, check_inputs
from converter.onnx_to_mil.node import Node, Value, as_constant, dims, is_bool, is_float, mb
from converter.onnx_to_mil.table import OPERATORS

__all__ = ["program_of"]

_MOST_AXES = 5


def program_of(model: Any, *, opset_version: Any) -> Any:  # noqa: ANN401 - onnx publishes no types
    """The MIL program of a model.

    Args:
        model: Simplified, of fixed shapes that are all stated in its `value_info`.
        opset_version: Least operating system, as `coremltools.target` names it.

    Raises:
        OperatorRefusedError: An operator, or a use of one, that is not known.
    """
    importer = Importer(OPERATORS, Node, target=Node.target, is_float=is_float, most_axes=_MOST_AXES)
    importer.check_supported(model)
    graph = model.graph
    check_inputs(graph, Node.target)
    placeholders = {item.name: _placeholder(item) for item in graph.input}
    program = Program()
    with Function(placeholders, opset_version=opset_version) as function:
        values: dict[str, Value] = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        for item in graph.input:
            values[item.name] = _taken(function.inputs[item.name], item)
        values = importer.run(graph, values)
        outputs = [_given(values[item.name], item.name) for item in graph.output]
        function.set_outputs(outputs)
        program.add_function("main", function)
    return program


def _placeholder(item: Any) -> Any:  # noqa: ANN401
    """An input: floats as floats, whole numbers and truth values as INT32, for there is no bool."""
    tensor = item.type.tensor_type
    shape = [int(dim.dim_value) for dim in tensor.shape.dim]
    # Pixels are floats to Core ML, also those of an image.
    small = tensor.elem_type == TensorProto.UINT8
    return mb.placeholder(shape, dtype=types.fp32 if small or tensor.elem_type in FLOATS else types.int32)


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
