from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.arrays import datatype_of, from_array, from_value, to_array, to_value
from edge_runtime.errors import InferenceError, InputError
from edge_runtime.port import AnyArray
from edge_runtime.signature import check_inputs, check_outputs
from ota_contract.inference_protocol import InferRequest, TensorValue, dump_request, parse_request
from ota_contract.tensors import Array, Datatype, Tensor
from tests.ota_contract.contract_strategies import NUMERIC, arrays

SIGNATURE = (
    Tensor(name="image", datatype=Datatype.UINT8, shape=(-1, 2, 2, 1)),
    Tensor(name="gain", datatype=Datatype.FP32, shape=()),
)
GOOD: dict[str, AnyArray] = {"image": np.zeros((3, 2, 2, 1), np.uint8), "gain": np.array(1.0, np.float32)}
SCORES = (Tensor(name="scores", datatype=Datatype.FP32, shape=(-1, 2)),)


def test_inputs_that_fit_are_let_through() -> None:
    check_inputs(SIGNATURE, GOOD)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"image": np.zeros((3, 2, 2), np.uint8)},
            r"input image: expected UINT8 of shape \[-1, 2, 2, 1\], got uint8 of shape \[3, 2, 2\]",
        ),
        ({"image": np.zeros((3, 2, 2, 1), np.float32)}, "input image: expected UINT8 .*, got float32 of"),
        ({"image": np.zeros((3, 2, 2, 1), np.int8)}, "input image: expected UINT8 .*, got int8 of"),
        ({"gain": np.array(1.0)}, "input gain: expected FP32 .*, got float64 of"),
        ({"gain": np.array(1.0, ">f4")}, "input gain: expected FP32"),
        ({"gain": 1.0}, "input gain: expected a numpy array, got float"),
        ({"image": [[1]]}, "input image: expected a numpy array, got list"),
        ({"other": np.zeros(1)}, r"expected inputs \['gain', 'image'\], got \['gain', 'image', 'other'\]"),
    ],
)
def test_an_input_that_does_not_fit_is_named_with_what_was_expected_and_what_came(
    change: dict[str, Any], why: str
) -> None:
    with pytest.raises(InputError, match=why):
        check_inputs(SIGNATURE, {**GOOD, **change})


def test_a_missing_input_is_named() -> None:
    with pytest.raises(InputError, match=r"expected inputs \['gain', 'image'\], got \['image'\]"):
        check_inputs(SIGNATURE, {"image": GOOD["image"]})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_nan_and_infinity_never_reach_the_caller(value: float, kind: type[Any]) -> None:
    scores = np.zeros((3, 2), kind)
    scores[2, 1] = value
    with pytest.raises(InferenceError, match="output scores holds NaN or infinity"):
        check_outputs(SCORES, {"scores": scores})


def test_opposite_infinities_do_not_hide_one_another() -> None:
    with pytest.raises(InferenceError):
        check_outputs(SCORES, {"scores": np.array([[np.inf, -np.inf]], np.float32)})


@pytest.mark.filterwarnings("error")
def test_large_answers_are_right_answers() -> None:
    """A sum of them would overflow; each of them is finite."""
    check_outputs(SCORES, {"scores": np.full((9, 2), 65_000, np.float16)})
    check_outputs(SCORES, {"scores": np.full((9, 2), 3e38, np.float32)})
    check_outputs(SCORES, {"scores": np.full((1, 2), 2**62, np.int64)})


def test_a_missing_or_misshapen_output_is_refused() -> None:
    with pytest.raises(InferenceError, match="gave no output scores"):
        check_outputs(SCORES, {})
    with pytest.raises(InferenceError, match=r"expected shape \[-1, 2\], got \[3, 3\]"):
        check_outputs(SCORES, {"scores": np.zeros((3, 3), np.float32)})


@given(arrays())
def test_an_array_of_the_contract_is_read_back_from_numpy(array: Array) -> None:
    if array.datatype is Datatype.BOOL:
        array = Array(datatype=array.datatype, shape=array.shape, data=bytes(b & 1 for b in array.data))
    assert to_array(from_array(array)) == array


def test_big_endian_and_transposed_arrays_are_the_same_value() -> None:
    array = np.arange(6, dtype=">i4").reshape(2, 3)
    assert to_array(array) == to_array(array.astype("<i4"))
    np.testing.assert_array_equal(from_array(to_array(array.T)), array.T)
    assert datatype_of(array) is Datatype.INT32


def test_a_copy_may_be_written_to() -> None:
    array = from_array(to_array(np.zeros(2, np.float32)))
    array[0] = 1


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.zeros(1, complex), "cannot be carried"),
        (np.zeros(1, "M8[s]"), "cannot be carried"),
        (np.array([None]), "expected bytes or text, got NoneType"),
        (np.array([b"a", 1], object), "expected bytes or text, got int"),
        (np.array(["\ud800"]), "cannot be written as UTF-8"),
    ],
)
def test_arrays_without_a_name_are_refused(array: AnyArray, why: str) -> None:
    with pytest.raises(InputError, match=why):
        datatype_of(array)


@pytest.mark.parametrize(
    "array", [np.array([[b"a", b"\xff"]]), np.array([["a", b"\xff"]], object), np.array([["a", "\u00ff"]])]
)
def test_bytes_and_text_are_carried_by_both_formats(array: AnyArray) -> None:
    """numpy's fixed width, objects, and text alike; through golden files and through the protocol."""
    wanted = [item.encode() if isinstance(item, str) else item for item in array[0].tolist()]
    assert from_array(to_array(array)).tolist() == [wanted]
    request = parse_request(dump_request(InferRequest(inputs=(to_value("x", array),))))
    assert from_value(request.inputs[0]).tolist() == [wanted]


@given(st.sampled_from(NUMERIC), st.data())
def test_a_protocol_tensor_is_read_back(datatype: Datatype, data: st.DataObject) -> None:
    kind = np.dtype(datatype.dtype)
    raw = data.draw(st.binary(min_size=4 * kind.itemsize, max_size=4 * kind.itemsize))
    array: AnyArray = np.frombuffer(raw, kind).reshape(2, 2)
    if kind.kind == "b":
        array = np.frombuffer(raw, np.uint8).reshape(2, 2) % 2 == 1
    if kind.kind == "f":
        array = np.nan_to_num(array)
    value = to_value("x", array)
    np.testing.assert_array_equal(from_value(value), array)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("datatype", "element"),
    [
        (Datatype.UINT8, 256),
        (Datatype.UINT8, -1),
        (Datatype.INT8, 128),
        (Datatype.INT64, 2**63),
        (Datatype.UINT64, -1),
        (Datatype.FP32, 1e300),
        (Datatype.FP16, 70_000),
        (Datatype.FP64, 10**400),
        (Datatype.FP32, 10**400),
    ],
)
def test_an_element_beyond_its_datatype_is_refused(datatype: Datatype, element: Any) -> None:
    """Not wrapped round, and not made infinite."""
    with pytest.raises(InputError, match="tensor x"):
        from_value(TensorValue(name="x", datatype=datatype, shape=(1,), data=[element]))
