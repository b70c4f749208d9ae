"""The Open Inference Protocol v2, JSON over HTTP: what the cloud endpoint and its clients exchange.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md.
The binary extension is not spoken yet: BYTES that are no text travel as base64, marked as MLServer marks
them, by the parameter `"content_type": "base64"` of their tensor. Values stay flat Python lists here;
`edge_runtime.arrays` turns them into numpy arrays where there is numpy.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ota_contract.documents import Reader, read_document
from ota_contract.errors import FormatError, ProtocolError
from ota_contract.tensors import MAX_RANK, Datatype

__all__ = [
    "CONTENT_TYPE",
    "MAX_MESSAGE_BYTES",
    "InferRequest",
    "InferResponse",
    "TensorValue",
    "dump_request",
    "dump_response",
    "parse_request",
    "parse_response",
]

CONTENT_TYPE = "application/json"
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

_MAX_TENSORS = 64
_BASE64 = "base64"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorValue:
    """A named tensor with its elements in row-major order; those of BYTES are `bytes`."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    data: Sequence[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """The body of `POST /v2/models/{model}/infer`."""

    inputs: tuple[TensorValue, ...]
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferResponse:
    """Its answer."""

    model_name: str
    model_version: str
    outputs: tuple[TensorValue, ...]
    id: str = ""


def dump_request(request: InferRequest) -> bytes:
    """Serialise a request."""
    return _dump({"id": request.id, "inputs": list(map(_tensor_to_json, request.inputs))})


def dump_response(response: InferResponse) -> bytes:
    """Serialise a response."""
    return _dump(
        {
            "model_name": response.model_name,
            "model_version": response.model_version,
            "id": response.id,
            "outputs": list(map(_tensor_to_json, response.outputs)),
        }
    )


def parse_request(data: bytes) -> InferRequest:
    """Parse a request from untrusted bytes.

    Raises:
        ProtocolError: Malformed, or a tensor's data does not fill its shape.
    """
    reader = _read(data, "inference request")
    try:
        return InferRequest(inputs=_tensors(reader, "inputs"), id=reader.text("id", default=""))
    except FormatError as error:
        raise ProtocolError(str(error)) from error


def parse_response(data: bytes) -> InferResponse:
    """Parse a response from untrusted bytes.

    Raises:
        ProtocolError: Malformed, or a tensor's data does not fill its shape.
    """
    reader = _read(data, "inference response")
    try:
        return InferResponse(
            model_name=reader.text("model_name", default=""),
            model_version=reader.text("model_version", default=""),
            outputs=_tensors(reader, "outputs"),
            id=reader.text("id", default=""),
        )
    except FormatError as error:
        raise ProtocolError(str(error)) from error


def _read(data: bytes, what: str) -> Reader:
    try:
        return read_document(data, what=what, format_=None, max_bytes=MAX_MESSAGE_BYTES)
    except FormatError as error:
        raise ProtocolError(str(error)) from error


def _dump(message: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as error:
        raise ProtocolError("a tensor holds NaN or infinity, which JSON cannot carry") from error


def _tensor_to_json(tensor: TensorValue) -> dict[str, Any]:
    content = {"name": tensor.name, "datatype": tensor.datatype.value, "shape": list(tensor.shape)}
    if tensor.datatype is not Datatype.BYTES:
        return {**content, "data": list(tensor.data)}
    try:
        return {**content, "data": [item.decode() for item in tensor.data]}
    except UnicodeDecodeError:
        coded = [base64.b64encode(item).decode() for item in tensor.data]
        return {**content, "parameters": {"content_type": _BASE64}, "data": coded}


def _tensors(reader: Reader, key: str) -> tuple[TensorValue, ...]:
    tensors = tuple(map(_tensor_from, reader.objects(key, max_items=_MAX_TENSORS, min_items=1)))
    if len({tensor.name for tensor in tensors}) != len(tensors):
        reader.fail(key, "a tensor's name appears twice")
    return tensors


def _tensor_from(reader: Reader) -> TensorValue:
    datatype = reader.member("datatype", Datatype)
    shape = reader.integers("shape", max_items=MAX_RANK, low=0, high=2**31 - 1)
    expected = math.prod(shape)
    data = reader.raw("data")
    if not isinstance(data, list):
        reader.fail("data", "expected an array")
    data = _flatten(data)
    if len(data) != expected:
        reader.fail("data", f"{len(data)} elements do not fill the shape {list(shape)}")
    if datatype is Datatype.BYTES:
        data = _bytes(reader, data)
        return TensorValue(name=reader.text("name"), datatype=datatype, shape=shape, data=data)
    kinds = (bool,) if datatype is Datatype.BOOL else (int,)
    if datatype.value.startswith("FP"):
        kinds = (int, float)  # type: ignore[assignment]
    if not all(type(item) in kinds for item in data):
        reader.fail("data", f"an element is not {datatype.value}")
    if any(type(item) is float and not math.isfinite(item) for item in data):  # 1e999 reads as infinity
        reader.fail("data", f"an element is beyond {datatype.value}")
    return TensorValue(name=reader.text("name"), datatype=datatype, shape=shape, data=data)


def _bytes(reader: Reader, data: list[Any]) -> list[bytes]:
    if not all(type(item) is str for item in data):
        reader.fail("data", "an element is not BYTES, which JSON carries as text")
    kind = reader.object("parameters").text("content_type", default="") if reader.has("parameters") else ""
    try:
        if kind == _BASE64:
            return [base64.b64decode(item, validate=True) for item in data]
        return [item.encode() for item in data]
    except ValueError as error:  # not base64, or a lone surrogate
        raise FormatError(f"{reader.where}.data: an element is not {kind or 'UTF-8'}") from error


def _flatten(data: list[Any]) -> list[Any]:
    """The protocol allows nested arrays in place of a flat one."""
    for _ in range(MAX_RANK):
        if not any(isinstance(item, list) for item in data):
            return data
        data = [child for item in data for child in (item if isinstance(item, list) else [item])]
    return data
