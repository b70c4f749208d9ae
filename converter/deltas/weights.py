"""Where a model file keeps its weights: offset, length and element width of every tensor, by name.

ONNX (protobuf), TFLite (flatbuffer) and Core ML's weight.bin are walked just as far as that takes, without
their libraries, which do not tell offsets. What is not understood has no tensors, and is compared as bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Tensor", "tensors_in"]

_LEAST_BYTES = 64
"""Smaller tensors are part of the bytes around them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor's raw elements in a file."""

    name: str
    """Empty where the file has none; then its place among the others identifies it."""
    offset: int
    length: int
    width: int

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.offset + self.length


def tensors_in(data: bytes) -> tuple[Tensor, ...]:
    """The tensors of a model file in order of offset, none overlapping another; empty if it is none."""
    read = _reader(data)
    if read is None:
        return ()
    try:
        found = sorted(read(data), key=lambda tensor: (tensor.offset, tensor.length))
    except (struct.error, IndexError, ValueError):
        return ()
    tensors: list[Tensor] = []
    end = 0
    for tensor in found:
        fits = end <= tensor.offset and tensor.end <= len(data) and tensor.length % tensor.width == 0
        if fits and tensor.length >= _LEAST_BYTES:
            tensors.append(tensor)
            end = tensor.end
    return tuple(tensors)


def _reader(data: bytes) -> Callable[[bytes], Iterator[Tensor]] | None:
    if data[4:8] == b"TFL3":
        return _tflite
    if data[4:8] == b"\x02\0\0\0" and data[64:68] == _BLOB_SENTINEL:
        return _coreml
    if data[:1] == b"\x08":  # ir_version, the first field of every ONNX file
        return _onnx
    return None


# ONNX ------------------------------------------------------------------------------------------------

_ONNX_WIDTHS = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""Bytes of an element by TensorProto.DataType; 1 for those not here."""
_GRAPH, _NODE, _INITIALIZER, _NODE_OUTPUT, _ATTRIBUTE = 7, 1, 5, 2, 5
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH = 5, 6
_TYPE, _FLOATS, _NAME, _RAW, _DOUBLES = 2, 4, 8, 9, 10
_PACKED = {_FLOATS: 4, _DOUBLES: 8}
_MAX_DEPTH = 8


def _onnx(data: bytes) -> Iterator[Tensor]:
    for number, begin, end in _fields(data, 0, len(data)):
        if number == _GRAPH:
            yield from _onnx_graph(data, begin, end, 0)


def _onnx_graph(data: bytes, begin: int, end: int, depth: int) -> Iterator[Tensor]:
    for number, first, last in _fields(data, begin, end):
        if number == _INITIALIZER:
            yield from _onnx_tensor(data, first, last, "")
        elif number == _NODE and depth < _MAX_DEPTH:
            yield from _onnx_node(data, first, last, depth)


def _onnx_node(data: bytes, begin: int, end: int, depth: int) -> Iterator[Tensor]:
    """A constant, or a loop's graph."""
    output = ""
    for number, first, last in _fields(data, begin, end):
        if number == _NODE_OUTPUT:
            output = output or _text(data, first, last)
        elif number == _ATTRIBUTE:
            for kind, low, high in _fields(data, first, last):
                if kind == _ATTRIBUTE_TENSOR:
                    yield from _onnx_tensor(data, low, high, output)
                elif kind == _ATTRIBUTE_GRAPH:
                    yield from _onnx_graph(data, low, high, depth + 1)


def _onnx_tensor(data: bytes, begin: int, end: int, name: str) -> Iterator[Tensor]:
    width, places = 1, []
    for number, first, last in _fields(data, begin, end):
        if number == _TYPE:
            width = _ONNX_WIDTHS.get(first, 1)
        elif number == _NAME:
            name = _text(data, first, last) or name
        elif number == _RAW or number in _PACKED:
            places.append((number, first, last))
    for number, first, last in places:
        yield Tensor(name=name, offset=first, length=last - first, width=_PACKED.get(number, width))


def _fields(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """A protobuf message's fields: number and, of bytes, begin and end; of a number, its value twice."""
    at = begin
    while at < end:
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value, value
            continue
        if kind == 2:  # noqa: PLR2004 - a length and so many bytes
            length, at = _varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"protobuf has no wire type {kind}")
        if at + length > end:
            raise ValueError("a field reaches beyond its message")
        if kind == 2:  # noqa: PLR2004
            yield number, at, at + length
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004
            return value, at
        shift += 7
        if shift > 63:  # noqa: PLR2004
            raise ValueError("a number without end")


def _text(data: bytes, begin: int, end: int) -> str:
    return data[begin:end].decode("utf-8", "replace")


# TFLite ----------------------------------------------------------------------------------------------

_TFLITE_WIDTHS = {0: 4, 1: 2, 2: 4, 4: 8, 7: 2, 8: 8, 10: 8, 11: 8, 12: 8, 15: 4, 16: 2, 18: 2}
"""Bytes of an element by TensorType; 1 for those not here."""
_SUBGRAPHS, _BUFFERS = 2, 4
_TENSORS = 0
_TENSOR_TYPE, _TENSOR_BUFFER, _TENSOR_NAME = 1, 2, 3
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2


def _tflite(data: bytes) -> Iterator[Tensor]:
    model = _u32(data, 0)
    buffers = list(_vector(data, _slot(data, model, _BUFFERS)))
    for subgraph in _vector(data, _slot(data, model, _SUBGRAPHS)):
        for tensor in _vector(data, _slot(data, subgraph, _TENSORS)):
            index_at = _slot(data, tensor, _TENSOR_BUFFER)
            type_at = _slot(data, tensor, _TENSOR_TYPE)
            index = _u32(data, index_at) if index_at else 0
            offset, length = _tflite_buffer(data, buffers[index])
            if length:
                yield Tensor(
                    name=_tflite_name(data, tensor),
                    offset=offset,
                    length=length,
                    width=_TFLITE_WIDTHS.get(data[type_at] if type_at else 0, 1),
                )


def _tflite_buffer(data: bytes, buffer: int) -> tuple[int, int]:
    """Where a buffer's bytes are: in itself, or behind the flatbuffer where the file is large."""
    at = _slot(data, buffer, _BUFFER_DATA)
    if at:
        vector = at + _u32(data, at)
        return vector + 4, _u32(data, vector)
    offset, size = (_slot(data, buffer, field) for field in (_BUFFER_OFFSET, _BUFFER_SIZE))
    if offset and size:
        return _u64(data, offset), _u64(data, size)
    return 0, 0


def _tflite_name(data: bytes, tensor: int) -> str:
    at = _slot(data, tensor, _TENSOR_NAME)
    if not at:
        return ""
    text = at + _u32(data, at)
    return _text(data, text + 4, text + 4 + _u32(data, text))


def _slot(data: bytes, table: int, field: int) -> int:
    """Where a field of a table is, or 0."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    at = 4 + 2 * field
    if vtable < 0 or at >= _u16(data, vtable):
        return 0
    offset = _u16(data, vtable + at)
    return table + offset if offset else 0


def _vector(data: bytes, at: int) -> Iterator[int]:
    """The tables a vector of a table's field points to."""
    if not at:
        return
    vector = at + _u32(data, at)
    for index in range(_u32(data, vector)):
        entry = vector + 4 + 4 * index
        yield entry + _u32(data, entry)


def _u16(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<H", data, at)[0])


def _u32(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _u64(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<Q", data, at)[0])


# Core ML ---------------------------------------------------------------------------------------------

_BLOB_SENTINEL = b"\xef\xbe\xad\xde"
_BLOB_ALIGNMENT = 64
_BLOB_WIDTHS = {1: 2, 2: 4, 5: 2, 6: 2, 7: 2, 9: 4, 10: 4}
"""Bytes of an element by the blob storage's data type; 1 for those not here."""


def _coreml(data: bytes) -> Iterator[Tensor]:
    """The blobs of weight.bin, which has no names: the program beside it points to them."""
    at = _BLOB_ALIGNMENT
    for _ in range(_u32(data, 0)):
        if data[at : at + 4] != _BLOB_SENTINEL:
            return
        length, offset = _u64(data, at + 8), _u64(data, at + 16)
        yield Tensor(name="", offset=offset, length=length, width=_BLOB_WIDTHS.get(_u32(data, at + 4), 1))
        at = -(-(offset + length) // _BLOB_ALIGNMENT) * _BLOB_ALIGNMENT
