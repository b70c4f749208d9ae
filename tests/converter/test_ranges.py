"""Ranges of tensors by each method, palettes, and packed weights: against their definitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from converter.errors import PassError, Reason
from converter.passes.onnx_weight_only import CONTRIB, packed_blocks
from converter.passes.palettes import palette
from converter.passes.ranges import ranges_of
from converter.variants import Calibration
from edge_runtime.port import AnyArray

CHANCE = np.random.default_rng(2)
VALUES = CHANCE.normal(0, 1, (20, 20_000)).astype(np.float32)


def _observe(values: AnyArray) -> Iterator[Mapping[str, AnyArray]]:
    yield from ({"x": row} for row in values)


def _range(values: AnyArray, calibration: Calibration) -> tuple[float, float]:
    return ranges_of(lambda: _observe(values), calibration, job_name="test")["x"]


def test_minmax_takes_every_sample_in() -> None:
    assert _range(VALUES, Calibration.MINMAX) == (float(VALUES.min()), float(VALUES.max()))


def test_zero_lies_in_every_range() -> None:
    assert _range(np.abs(VALUES) + 3, Calibration.MINMAX)[0] == 0.0
    assert _range(-np.abs(VALUES) - 3, Calibration.MINMAX)[1] == 0.0


@pytest.mark.parametrize("calibration", [Calibration.PERCENTILE, Calibration.ENTROPY])
def test_a_lonely_outlier_is_clipped(calibration: Calibration) -> None:
    values = VALUES.copy()
    values[7, 3] = 100.0
    low, high = _range(values, calibration)
    assert 2.5 < high < 30
    assert -7 < low < -2.5


@pytest.mark.parametrize("calibration", [Calibration.PERCENTILE, Calibration.ENTROPY])
def test_the_many_zeros_of_a_relu_clip_nothing_else(calibration: Calibration) -> None:
    values = np.maximum(VALUES, 0)
    values[:, ::2] = 0
    assert _range(values, calibration)[1] > 2.5


def test_a_constant_has_a_range() -> None:
    for calibration in Calibration:
        assert _range(np.full((3, 4), 2.0, np.float32), calibration) == (0.0, 2.0)


def test_nan_is_refused_with_the_tensors_name() -> None:
    values = VALUES.copy()
    values[19, 0] = np.nan
    with pytest.raises(PassError, match="tensor x holds NaN or infinity on the calibration set") as caught:
        _range(values, Calibration.MINMAX)
    assert caught.value.reason is Reason.NOT_FINITE


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 4, 6, 8]), st.integers(1, 3000))
@settings(max_examples=40, deadline=None)
def test_every_value_gets_the_nearest_entry_of_a_palette(seed: int, bits: int, size: int) -> None:
    values = np.random.default_rng(seed).standard_t(3, size).astype(np.float16)
    table, index = palette(values.reshape(1, -1), bits)
    assert table.shape == (1 << bits,)
    assert (table.dtype.name, index.dtype.name) == ("float16", "uint8")
    assert (np.diff(table.astype(float)) >= 0).all()
    nearest = np.abs(values[:, None].astype(float) - table[None].astype(float)).min(axis=1)
    assert np.allclose(np.abs(values.astype(float) - table[index].astype(float)), nearest)


def test_few_values_are_kept_exactly() -> None:
    values = np.array([0.5, -1.0, 2.0, 0.5], np.float16)
    table, index = palette(values, 4)
    assert np.array_equal(table[index], values)


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_a_palette_beats_an_even_one(bits: int) -> None:
    values = VALUES[0].astype(np.float16)
    table, index = palette(values, bits)
    even = np.linspace(values.min(), values.max(), 1 << bits)
    spacing = even[1] - even[0]
    rounded = even[np.rint((values.astype(float) - even[0]) / spacing).astype(int)]
    error, even_error = (np.mean((values.astype(float) - one) ** 2) for one in (table[index], rounded))
    assert error < 0.7 * even_error


@pytest.mark.parametrize(("bits", "block_size"), [(4, 16), (4, 32), (8, 32), (8, 128)])
@pytest.mark.parametrize("inputs", [32, 50])
def test_packed_weights_mean_to_the_runtime_what_they_mean_here(
    bits: int, block_size: int, inputs: int
) -> None:
    weight = CHANCE.normal(0, 1, (inputs, 6)).astype(np.float32)
    codes, scales = packed_blocks(weight, bits=bits, block_size=block_size)
    node = helper.make_node(
        "MatMulNBits", ["x", "codes", "scales"], ["y"], domain=CONTRIB, K=inputs, N=6, bits=bits,
        block_size=block_size,
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [inputs, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [inputs, 6])],
        [numpy_helper.from_array(codes, "codes"), numpy_helper.from_array(scales, "scales")],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(CONTRIB, 1)]
    )
    onnx.checker.check_model(model)
    model.ir_version = 8
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    held = session.run(None, {"x": np.eye(inputs, dtype=np.float32)})[0]
    step = np.repeat(np.abs(scales), block_size, axis=1)[:, :inputs].T
    # The code on the far side of the greatest weight does not exist: there the error is a whole step.
    assert (np.abs(held - weight) <= step * 1.01).all()
    assert np.sqrt(np.mean(((held - weight) / step) ** 2)) < 0.4
