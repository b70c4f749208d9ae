from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from ota_contract.errors import ProtocolError
from ota_contract.inference_protocol import (
    InferRequest,
    InferResponse,
    TensorValue,
    dump_request,
    dump_response,
    parse_request,
    parse_response,
)
from ota_contract.tensors import Datatype
from tests.ota_contract.contract_strategies import infer_requests, infer_responses

TENSOR: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2.5, 3, 4]}


def parse(*tensors: Any) -> InferRequest:
    return parse_request(json.dumps({"inputs": list(tensors)}).encode())


@given(infer_requests())
def test_a_request_is_read_back(request: InferRequest) -> None:
    assert parse_request(dump_request(request)) == request


@given(infer_responses())
def test_a_response_is_read_back(response: InferResponse) -> None:
    assert parse_response(dump_response(response)) == response


def test_nested_data_is_the_same_as_flat() -> None:
    """The protocol allows both."""
    assert parse({**TENSOR, "data": [[1, 2.5], [3, 4]]}) == parse(TENSOR)


def test_parameters_and_other_keys_are_ignored() -> None:
    body = {"inputs": [{**TENSOR, "parameters": {"a": 1}}], "outputs": [{"name": "y"}], "parameters": {}}
    assert parse_request(json.dumps(body).encode()) == parse(TENSOR)


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"name": 1},
        {"datatype": "BYTES"},
        {"datatype": None},
        {"shape": [2]},
        {"shape": [2, -1]},
        {"shape": [1] * 9},
        {"shape": "2,2"},
        {"data": [1, 2, 3]},
        {"data": None},
        {"data": "AAAA"},
        {"data": [1, 2, 3, "4"]},
        {"data": [1, 2, 3, None]},
        {"data": [1, 2, 3, True]},
        {"data": [1, 2, 3, {}]},
        {"datatype": "INT32"},
        {"datatype": "BOOL"},
    ],
    ids=repr,
)
def test_a_malformed_tensor_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="inference request"):
        parse({**TENSOR, **change})


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_numbers_json_does_not_have_are_refused(number: str) -> None:
    body = f'{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1],"data":[{number}]}}]}}'
    with pytest.raises(ProtocolError):
        parse_request(body.encode())


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"inputs": []}', b'{"inputs": {}}', b"\xff", b"null"])
def test_a_body_without_inputs_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_request(body)
    with pytest.raises(ProtocolError):
        parse_response(body)


def test_two_tensors_of_one_name_are_refused() -> None:
    """Else one of them would win, and which one is not said anywhere."""
    with pytest.raises(ProtocolError, match="appears twice"):
        parse(TENSOR, TENSOR)


def test_deeply_nested_data_is_refused() -> None:
    data: Any = [1, 2, 3, 4]
    for _ in range(40):
        data = [data]
    with pytest.raises(ProtocolError):
        parse({**TENSOR, "data": data})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_never_written(value: float) -> None:
    tensor = TensorValue(name="x", datatype=Datatype.FP32, shape=(1,), data=[value])
    with pytest.raises(ProtocolError, match="NaN or infinity"):
        dump_request(InferRequest(inputs=(tensor,)))
