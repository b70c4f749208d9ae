from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import InputError
from edge_runtime.port import AnyArray
from edge_runtime.preprocessing import prepare
from ota_contract.preprocessing import InputSpec
from ota_contract.preprocessing_steps import Affine, Cast, Reshape, Step
from ota_contract.tensors import Datatype

INTEGERS = [datatype for datatype in Datatype if "INT" in datatype.value]
FLOATS = [Datatype.FP16, Datatype.FP32, Datatype.FP64]


def spec(*steps: Step, raw: Datatype = Datatype.FP32, shape: tuple[int, ...] = (-1,)) -> InputSpec:
    return InputSpec(input="x", raw_datatype=raw, raw_shape=shape, steps=steps)


def run(array: AnyArray, *steps: Step, raw: Datatype = Datatype.FP32) -> AnyArray:
    shape = (-1,) * array.ndim
    return prepare([spec(*steps, raw=raw, shape=shape)], {"x": array})["x"]


def cast(to: Datatype) -> Step:
    return Cast(datatype=to)


def elements(datatype: Datatype) -> st.SearchStrategy[Any]:
    kind = np.dtype(datatype.dtype)
    if kind.kind == "f":
        return st.floats(allow_nan=False, width=8 * kind.itemsize)  # type: ignore[arg-type]
    limits = np.iinfo(kind)
    return st.integers(int(limits.min), int(limits.max))


@given(st.sampled_from(INTEGERS + FLOATS), st.sampled_from(INTEGERS), st.data())
def test_a_cast_to_integers_saturates(source: Datatype, target: Datatype, data: st.DataObject) -> None:
    """Of any number, infinite ones too: the nearest the target has, by exact arithmetic."""
    array = np.array(data.draw(st.lists(elements(source), min_size=1, max_size=5)), source.dtype)
    got = run(array, cast(target), raw=source)
    limits = np.iinfo(target.dtype)
    assert got.dtype == target.dtype
    for before, after in zip(array.tolist(), got.tolist(), strict=True):
        if isinstance(before, float) and math.isinf(before):
            wanted = limits.max if before > 0 else limits.min
        else:
            wanted = min(max(round(before), int(limits.min)), int(limits.max))
        assert after == wanted


@pytest.mark.filterwarnings("error")
@given(st.sampled_from(INTEGERS + FLOATS), st.sampled_from(FLOATS), st.data())
def test_a_cast_to_floats_saturates(source: Datatype, target: Datatype, data: st.DataObject) -> None:
    array = np.array(data.draw(st.lists(elements(source), min_size=1, max_size=5)), source.dtype)
    got = run(array, cast(target), raw=source)
    assert got.dtype == target.dtype
    assert np.isfinite(got).all()
    with np.errstate(over="ignore"):
        plain = array.astype(target.dtype)
    finite = np.isfinite(plain)
    np.testing.assert_array_equal(got[finite], plain[finite])
    np.testing.assert_array_equal(np.abs(got[~finite]), np.finfo(target.dtype).max)


def test_halves_go_to_the_even_number() -> None:
    assert run(np.array([0.5, 1.5, 2.5, -0.5], np.float32), cast(Datatype.INT8)).tolist() == [0, 2, 2, 0]


@pytest.mark.parametrize("target", INTEGERS)
def test_nan_has_no_place_among_integers(target: Datatype) -> None:
    with pytest.raises(InputError, match="raw input x: NaN"):
        run(np.array([np.nan], np.float32), cast(target))


def test_a_cast_to_booleans_asks_for_zero() -> None:
    assert run(np.array([0.0, 0.1, -2.0], np.float32), cast(Datatype.BOOL)).tolist() == [False, True, True]


@given(st.lists(elements(Datatype.FP16), min_size=1, max_size=5), st.floats(-100, 100), st.floats(-100, 100))
def test_affine_is_computed_in_fp32(values: list[float], scale: float, offset: float) -> None:
    array = np.array(values, np.float16)
    with np.errstate(all="ignore"):
        got = run(array, Affine(scale=(scale,), offset=(offset,)), raw=Datatype.FP16)
        wanted = array.astype(np.float32) * np.float32(scale) + np.float32(offset)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, wanted)


def test_a_reshape_keeps_the_elements_in_their_order() -> None:
    array = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    got = run(array, Reshape(shape=(-1, 4)))
    np.testing.assert_array_equal(got, array.reshape(2, 4))


def test_a_reshape_that_cannot_be_is_the_inputs_fault() -> None:
    with pytest.raises(InputError, match="raw input x"):
        run(np.zeros(3, np.float32), Reshape(shape=(2, -1)))


def test_steps_run_in_their_order_and_folded_ones_do_not() -> None:
    steps = (
        Affine(scale=(2.0,), offset=(1.0,)),
        Affine(scale=(1000.0,), folded=True),
        Cast(datatype=Datatype.UINT8),
    )
    assert run(np.array([1.0, 200.0], np.float32), *steps).tolist() == [3, 255]


def test_the_raw_array_is_not_changed() -> None:
    array = np.ones(3, np.float32)
    run(array, Affine(scale=(2.0,), offset=(0.0,)))
    assert array.tolist() == [1, 1, 1]


def test_inputs_without_a_spec_pass_through() -> None:
    other = np.zeros(2)
    tensors = prepare([spec()], {"x": np.zeros(1, np.float32), "other": other})
    assert tensors["other"] is other


@pytest.mark.parametrize(
    ("array", "why"),
    [
        ([[1.0, 2.0]], "raw input x: expected a numpy array, got list"),
        (
            np.zeros(2, np.float64),
            r"raw input x: expected FP32 of shape \[-1, 2\], got float64 of shape \[2\]",
        ),
        (np.zeros((1, 3), np.float32), r"got float32 of shape \[1, 3\]"),
        (np.zeros((1, 2, 1), np.float32), r"got float32 of shape \[1, 2, 1\]"),
        (np.zeros((1, 2), ">f4"), "raw input x"),
    ],
)
def test_a_raw_value_of_another_kind_is_refused(array: AnyArray, why: str) -> None:
    with pytest.raises(InputError, match=why):
        prepare([spec(shape=(-1, 2))], {"x": array})


def test_a_missing_raw_value_is_named() -> None:
    with pytest.raises(InputError, match="raw input x is missing"):
        prepare([spec()], {})
