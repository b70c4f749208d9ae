from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from ota_contract.errors import FormatError, UnknownFormatError
from ota_contract.golden import Vector, dump_golden, parse_golden
from ota_contract.tensors import DYNAMIC, Array, Datatype, Tensor
from tests.ota_contract.contract_strategies import vectors

ARRAY: dict[str, Any] = {"datatype": "UINT8", "shape": [2], "data": "AQI="}


def parse(array: Any) -> tuple[Vector, ...]:
    vector = {"raw": {"x": array}, "tensors": {"x": ARRAY}, "outputs": {"y": ARRAY}}
    return parse_golden(json.dumps({"format": "ferry.golden/1", "vectors": [vector]}).encode())


@given(vectors(), vectors())
def test_vectors_are_read_back_and_written_the_same(one: Vector, other: Vector) -> None:
    data = dump_golden((one, other))
    assert parse_golden(data) == (one, other)
    assert dump_golden(parse_golden(data)) == data


def test_the_bytes_are_base64_of_little_endian_elements() -> None:
    (vector,) = parse(ARRAY)
    assert vector.raw["x"] == Array(datatype=Datatype.UINT8, shape=(2,), data=b"\x01\x02")


@pytest.mark.parametrize(
    "change",
    [
        {"data": "AQ=="},
        {"data": "AQID"},
        {"data": "not base64!"},
        {"data": "AQI"},
        {"data": "ÄQI="},
        {"data": "AQI=\n"},
        {"data": 1},
        {"data": None},
        {"shape": [3]},
        {"shape": [-1]},
        {"shape": [1] * 9},
        {"shape": [2**31]},
        {"shape": [2**31 - 1] * 8},
        {"shape": None},
        {"datatype": "UINT16"},
        {"datatype": "BYTES"},
    ],
    ids=repr,
)
def test_an_array_whose_bytes_do_not_fill_it_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="golden vectors"):
        parse({**ARRAY, **change})


@pytest.mark.parametrize("array", [None, 1, [], "AQI="])
def test_what_is_no_array_is_refused(array: Any) -> None:
    with pytest.raises(FormatError):
        parse(array)


def test_no_vectors_prove_nothing_and_are_refused() -> None:
    with pytest.raises(FormatError, match="0 items"):
        parse_golden(b'{"format":"ferry.golden/1","vectors":[]}')


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UnknownFormatError):
        parse_golden(b'{"format":"ferry.golden/2","vectors":[]}')


@pytest.mark.parametrize("datatype", Datatype)
def test_a_datatype_knows_its_size(datatype: Datatype) -> None:
    sizes = {"BOOL": 1, "FP16": 2, "FP32": 4, "FP64": 8, "UINT8": 1, "INT64": 8, "UINT16": 2, "BYTES": 0}
    assert datatype.item_bytes == sizes.get(datatype.value, datatype.item_bytes)
    size = str(datatype.item_bytes) if datatype is not Datatype.BYTES else "O"
    assert datatype.dtype.endswith(size)


def test_a_signature_admits_any_length_where_it_is_dynamic() -> None:
    tensor = Tensor(name="x", datatype=Datatype.FP32, shape=(DYNAMIC, 8, 1))
    assert tensor.admits((1, 8, 1))
    assert tensor.admits((0, 8, 1))
    for shape in ((1, 8), (1, 8, 1, 1), (1, 7, 1), ()):
        assert not tensor.admits(shape)
    assert tensor.least_bytes() == 32
