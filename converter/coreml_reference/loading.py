"""Reads a saved mlpackage into a `Program`. Only the formats are known here, no operation.

The specification is read with coremltools' protobuf classes; its importer and `MIL` builder are not used,
so what is evaluated is what is on disk and not what coremltools makes of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from converter.coreml_reference.blobs import WeightFile
from converter.coreml_reference.datatypes import Array, ElementType, TensorType, unpacked
from converter.coreml_reference.program import Block, Named, Operation, Program, Reference
from converter.errors import UnsupportedOperationError
from edge_runtime.errors import ModelLoadError

__all__ = ["read_package"]

_MODEL_PATH = "@model_path/"
_FUNCTION = "main"


def read_package(package: Path) -> Program:
    """The program of an mlpackage folder.

    Raises:
        ModelLoadError: A file is missing, cut short, or not what it should be.
        UnsupportedOperationError: It is a model, and not one of the kind evaluated here.
    """
    from coremltools.proto import Model_pb2  # noqa: PLC0415 - coremltools takes seconds to import
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # noqa: PLC0415

    path = _specification(package)
    model = Model_pb2.Model()
    try:
        model.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise ModelLoadError(f"{package.name}: {path.name} is not a Core ML model: {error}") from error
    kind = model.WhichOneof("Type")
    if kind is None:
        raise ModelLoadError(f"{package.name}: {path.name} holds no model")
    if kind != "mlProgram" or _FUNCTION not in model.mlProgram.functions:
        raise UnsupportedOperationError(kind, "only ML programs with a main function are evaluated")
    try:
        return _Reader(path.parent).program(model)
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        raise ModelLoadError(f"{package.name}: the program is malformed: {error}") from error


def _specification(package: Path) -> Path:
    path = package / "Manifest.json"
    try:
        manifest = json.loads(path.read_bytes())
        entry = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
        return _inside(package / "Data", entry["path"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelLoadError(f"{package.name}: {path.name} names no model ({error})") from error


def _inside(folder: Path, text: str) -> Path:
    inner = PurePosixPath(text)
    if inner.is_absolute() or ".." in inner.parts:
        raise ValueError(f"{text!r} lies outside the package")
    return folder / inner


class _Reader:
    """Turns protobuf messages into values; weights come from the files they name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, WeightFile] = {}

    def program(self, model: Any) -> Program:  # noqa: ANN401 - protobuf classes are untyped
        function = model.mlProgram.functions[_FUNCTION]
        described = {feature.name: feature.type for feature in model.description.input}
        images = {
            name: kind.imageType.colorSpace == kind.imageType.BGR
            for name, kind in described.items()
            if kind.WhichOneof("Type") == "imageType"
        }
        return Program(
            inputs=tuple(map(self._named, function.inputs)),
            block=self._block(function.block_specializations[function.opset]),
            images=images,
        )

    def _block(self, block: Any) -> Block:  # noqa: ANN401
        return Block(
            inputs=tuple(value.name for value in block.inputs),
            operations=tuple(map(self._operation, block.operations)),
            outputs=tuple(block.outputs),
        )

    def _operation(self, operation: Any) -> Operation:  # noqa: ANN401
        # Constants and the older compressed constants keep their arguments as attributes.
        arguments: dict[str, tuple[Reference | Array, ...]] = {
            name: (self._value(value),) for name, value in operation.attributes.items() if name != "name"
        }
        for name, argument in operation.inputs.items():
            arguments[name] = tuple(self._bound(argument.arguments))
        return Operation(
            kind=operation.type,
            arguments=arguments,
            outputs=tuple(map(self._named, operation.outputs)),
            blocks=tuple(map(self._block, operation.blocks)),
        )

    def _bound(self, bindings: Iterable[Any]) -> Iterable[Reference | Array]:
        for binding in bindings:
            if binding.WhichOneof("binding") == "name":
                yield Reference(binding.name)
            else:
                yield self._value(binding.value)

    def _named(self, value: Any) -> Named:  # noqa: ANN401
        return Named(name=value.name, type=_tensor_type(value.type))

    def _value(self, value: Any) -> Array:  # noqa: ANN401
        kind = _tensor_type(value.type)
        if kind.shape is None or None in kind.shape:
            raise ValueError("a constant of unknown shape")
        shape = tuple(length or 0 for length in kind.shape)
        count = int(np.prod(shape, dtype=np.int64))
        if value.WhichOneof("value") == "blobFileValue":
            flat = self._file(value.blobFileValue.fileName).read(
                value.blobFileValue.offset, kind.element, count
            )
        else:
            flat = _immediate(value.immediateValue.tensor, kind.element, count)
        return flat.reshape(shape)

    def _file(self, name: str) -> WeightFile:
        if name not in self._files:
            if not name.startswith(_MODEL_PATH):
                raise ValueError(f"weights in {name!r}")
            self._files[name] = WeightFile(_inside(self._folder, name.removeprefix(_MODEL_PATH)))
        return self._files[name]


def _tensor_type(value_type: Any) -> TensorType:  # noqa: ANN401
    kind = value_type.WhichOneof("type")
    if kind != "tensorType":
        raise UnsupportedOperationError(str(kind), "only tensors are evaluated, no lists or states")
    tensor = value_type.tensorType
    try:
        element = ElementType(tensor.dataType)
    except ValueError as error:
        raise UnsupportedOperationError(f"data type {tensor.dataType}", "elements not known here") from error
    if tensor.rank < 0:
        return TensorType(element=element, shape=None)
    return TensorType(
        element=element,
        shape=tuple(
            int(dimension.constant.size) if dimension.WhichOneof("dimension") == "constant" else None
            for dimension in tensor.dimensions
        ),
    )


def _immediate(tensor: Any, element: ElementType, count: int) -> Array:  # noqa: ANN401
    field = tensor.WhichOneof("value")
    if field is None:
        raise ValueError("a constant without a value")
    values = getattr(tensor, field).values
    if field == "bytes":
        return unpacked(bytes(values), element, count)
    if len(values) != count:
        raise ValueError(f"a constant of {count} elements holds {len(values)}")
    return np.array(list(values), dtype=element.numpy)
