"""Shapes, slices, gathers and scatters of the reference evaluator, against ONNX Runtime and TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.errors import UnsupportedOperationError
from tests.converter.coreml_oracles import evaluated, noise, onnx_answers


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_slices_by_index_are_pythons(data: st.DataObject) -> None:
    """Begin, end and stride of every axis, each masked or not, forwards and backwards."""
    shape = (4, 5, 6)
    begin, end, stride, masks = [], [], [], []
    for length in shape:
        step = data.draw(st.sampled_from([1, 2, -1, -2]))
        begin.append(data.draw(st.integers(0, length - 1)))
        end.append(data.draw(st.integers(0, length - 1)))
        stride.append(step)
        masks.append(data.draw(st.tuples(st.booleans(), st.booleans())))
    x = noise(*shape)
    expected = x
    for axis, (first, last, step, (open_begin, open_end)) in enumerate(
        zip(begin, end, stride, masks, strict=True)
    ):
        low = (0 if step > 0 else shape[axis] - 1) if open_begin else first
        high = (shape[axis] if step > 0 else -1) if open_end else last
        expected = np.take(expected, list(range(low, high, step)), axis)
    got = evaluated(
        "slice_by_index", x=x, begin=begin, end=end, stride=stride,
        begin_mask=[mask[0] for mask in masks], end_mask=[mask[1] for mask in masks],
    )  # fmt: skip
    np.testing.assert_array_equal(got, expected)


def test_slices_by_index_count_from_the_end_and_squeeze() -> None:
    x = noise(4, 5, 6)
    expected = tf.strided_slice(x, [-2, 0, 1], [-1, 5, 4], [1, 2, 1], shrink_axis_mask=0b001)
    got = evaluated(
        "slice_by_index", x=x, begin=[-2, 0, 1], end=[-1, 5, 4], stride=[1, 2, 1],
        squeeze_mask=[True, False, False],
    )  # fmt: skip
    np.testing.assert_array_equal(got, np.asarray(expected))


def test_slices_by_size() -> None:
    x = noise(4, 5)
    got = evaluated("slice_by_size", x=x, begin=[1, -3], size=[2, -1])
    np.testing.assert_array_equal(got, np.asarray(tf.slice(x, [1, 2], [2, 3])))


def test_a_slice_is_replaced_and_the_source_is_not() -> None:
    x = noise(4, 5)
    update = noise(2, 2, seed=1)
    got = evaluated("slice_update", x=x, update=update, begin=[1, 0], end=[3, 4], stride=[1, 2])
    for i, j in np.ndindex(4, 5):
        inside = 1 <= i < 3 and j in (0, 2)
        assert got[i, j] == (update[i - 1, j // 2] if inside else x[i, j])
    np.testing.assert_array_equal(x, noise(4, 5))


@settings(deadline=None, max_examples=40)
@given(mode=st.sampled_from(["constant", "reflect", "replicate"]), pad=st.tuples(*[st.integers(0, 2)] * 4))
def test_padding(mode: str, pad: Any) -> None:
    """The last axes are padded; those before them are not."""
    x = noise(2, 4, 5)
    onnx = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}[mode]
    pads = np.array([0, pad[0], pad[2], 0, pad[1], pad[3]], np.int64)
    inputs = {"x": x, "pads": pads, **({"value": np.array(0.5, np.float32)} if mode == "constant" else {})}
    (expected,) = onnx_answers("Pad", inputs, mode=onnx)
    got = evaluated("pad", x=x, pad=pad, mode=mode, constant_val=0.5 if mode == "constant" else None)
    np.testing.assert_array_equal(got, expected)


def test_padding_that_mil_does_not_define_is_refused() -> None:
    with pytest.raises(ValueError, match="reflect padding"):
        evaluated("pad", x=noise(2, 3), pad=[3, 0], mode="reflect")
    with pytest.raises(UnsupportedOperationError, match="mode wrap"):
        evaluated("pad", x=noise(2, 3), pad=[1, 0], mode="wrap")


def test_cropping_takes_off_the_last_two_axes() -> None:
    x = noise(1, 2, 6, 7)
    got = evaluated("crop", x=x, crop_height=[1, 0], crop_width=[0, 3])
    expected = tf.image.crop_to_bounding_box(x.transpose(0, 2, 3, 1), 1, 0, 5, 4)
    np.testing.assert_array_equal(got, np.asarray(expected).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_gathering(axis: int, shape: tuple[int, ...]) -> None:
    x = noise(3, 4, 5)
    indices = np.random.default_rng(1).integers(-3, 3, shape)
    (expected,) = onnx_answers("Gather", {"x": x, "i": np.asarray(indices, np.int64)}, axis=axis)
    np.testing.assert_array_equal(evaluated("gather", x=x, indices=indices, axis=axis), expected)


@pytest.mark.parametrize(("axis", "batch_dims"), [(1, 1), (2, 1), (2, 2)])
def test_gathering_by_batch(axis: int, batch_dims: int) -> None:
    x = noise(2, 3, 4)
    indices = np.random.default_rng(1).integers(0, 3, (2, 3, 2)[: batch_dims + 1])
    expected = tf.gather(x, indices, axis=axis, batch_dims=batch_dims)
    got = evaluated("gather", x=x, indices=indices, axis=axis, batch_dims=batch_dims)
    np.testing.assert_array_equal(got, np.asarray(expected))


def test_gathering_along_an_axis() -> None:
    x = noise(3, 4)
    indices = np.random.default_rng(1).integers(0, 3, (2, 4))
    (expected,) = onnx_answers("GatherElements", {"x": x, "i": indices}, axis=0)
    np.testing.assert_array_equal(evaluated("gather_along_axis", x=x, indices=indices, axis=0), expected)


@pytest.mark.parametrize(("depth", "batch_dims"), [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1)])
def test_gathering_many_axes(depth: int, batch_dims: int) -> None:
    x = noise(2, 3, 4)
    indices = np.random.default_rng(1).integers(0, 2, (2, 5, depth))
    (expected,) = onnx_answers("GatherND", {"x": x, "i": indices}, batch_dims=batch_dims)
    got = evaluated("gather_nd", x=x, indices=indices, batch_dims=batch_dims)
    np.testing.assert_array_equal(got, expected)


def test_an_index_beyond_the_axis_is_an_error() -> None:
    """Apple's runtime does not say what it reads there, so nothing is claimed."""
    for kind in ("gather", "gather_along_axis"):
        with pytest.raises(IndexError):
            evaluated(kind, x=noise(3, 4), indices=np.full((3, 4), 4), axis=1)


MODES = {"update": "none", "add": "add", "mul": "mul", "max": "max", "min": "min"}


@pytest.mark.parametrize("mode", sorted(MODES))
def test_scattering_along_an_axis(mode: str) -> None:
    """Places that are written twice are written twice."""
    data, updates = noise(3, 4), noise(2, 4, seed=1)
    indices = np.array([[0, 1, 2, 0], [0, 2, 1, 1]])
    if mode == "update":
        indices[1, 0] = 1  # which of two updates stays is not defined
    inputs = {"d": data, "i": indices, "u": updates}
    (expected,) = onnx_answers("ScatterElements", inputs, axis=0, reduction=MODES[mode])
    got = evaluated("scatter_along_axis", data=data, indices=indices, updates=updates, axis=0, mode=mode)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("mode", sorted(MODES))
def test_scattering_slices(mode: str) -> None:
    data, updates = noise(4, 5), noise(3, 5, seed=1)
    indices = np.array([[2], [0], [1 if mode == "update" else 2]])
    inputs = {"d": data, "i": indices, "u": updates}
    (expected,) = onnx_answers("ScatterND", inputs, reduction=MODES[mode])
    got = evaluated("scatter_nd", data=data, indices=indices, updates=updates, mode=mode)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    flat = evaluated("scatter", data=data, indices=indices[:, 0], updates=updates, axis=0, mode=mode)
    np.testing.assert_allclose(flat, expected, rtol=1e-6)


def test_scattering_by_difference_and_quotient_on_another_axis() -> None:
    data, updates = noise(2, 3), np.array([[2.0, 4.0], [5.0, 8.0]], np.float32)
    got = evaluated("scatter", data=data, indices=[1, 1], updates=updates, axis=1, mode="sub")
    np.testing.assert_allclose(got[:, 1], data[:, 1].astype(np.float64) - [6.0, 13.0])
    got = evaluated("scatter", data=data, indices=[0, 0], updates=updates, axis=-1, mode="div")
    np.testing.assert_allclose(got[:, 0], data[:, 0].astype(np.float64) / [8.0, 40.0])
    np.testing.assert_array_equal(got[:, 1:], data[:, 1:])
    with pytest.raises(UnsupportedOperationError, match="mode xor"):
        evaluated("scatter", data=data, indices=[1, 1], updates=updates, axis=1, mode="xor")


# Shapes ----------------------------------------------------------------------------------------------


def test_reshaping_keeps_zero_and_infers_minus_one() -> None:
    x = noise(2, 3, 4)
    shape = np.array([0, -1], np.int64)
    (expected,) = onnx_answers("Reshape", {"x": x, "s": shape})
    np.testing.assert_array_equal(evaluated("reshape", x=x, shape=shape), expected)


def test_reshaping_like_others() -> None:
    got = evaluated(
        "reshape_like", x=noise(60), ref_tensors=[noise(2, 3, 4), noise(1, 5, 2)],
        begins=[np.array(0), np.array(1)], ends=[np.array(2), np.array(0)],
        end_masks=[np.array(0, bool), np.array(1, bool)],
    )  # fmt: skip
    assert got.shape == (2, 3, 5, 2)


def test_axes_come_and_go() -> None:
    x = noise(1, 3, 1, 4)
    assert evaluated("squeeze", x=x).shape == (3, 4)
    assert evaluated("squeeze", x=x, axes=[-2]).shape == (1, 3, 4)
    assert evaluated("expand_dims", x=noise(3, 4), axes=[0, -1]).shape == (1, 3, 4, 1)
    assert evaluated("flatten2d", x=noise(2, 3, 4), axis=-1).shape == (6, 4)
    assert evaluated("shape", x=noise(2, 3, 4)).tolist() == [2, 3, 4]
    transposed = evaluated("transpose", x=noise(2, 3, 4), perm=[-1, 0, 1])
    np.testing.assert_array_equal(transposed, np.asarray(tf.transpose(noise(2, 3, 4), [2, 0, 1])))


def test_joining_and_parting() -> None:
    a, b = noise(2, 3), noise(2, 3, seed=1)
    (expected,) = onnx_answers("Concat", {"a": a, "b": b}, axis=1)
    np.testing.assert_array_equal(evaluated("concat", values=[a, b], axis=-1), expected)
    mixed = evaluated("concat", values=[a, b], axis=1, interleave=True)
    np.testing.assert_array_equal(mixed[:, 0::2], a)
    np.testing.assert_array_equal(mixed[:, 1::2], b)
    np.testing.assert_array_equal(evaluated("stack", values=[a, b], axis=1), np.asarray(tf.stack([a, b], 1)))
    x = noise(5, 6)
    for got, expected in zip(
        evaluated("split", x=x, split_sizes=[1, 3, 2], axis=1), tf.split(x, [1, 3, 2], 1), strict=True
    ):
        np.testing.assert_array_equal(got, np.asarray(expected))
    for got, expected in zip(evaluated("split", x=x, num_splits=3, axis=1), tf.split(x, 3, 1), strict=True):
        np.testing.assert_array_equal(got, np.asarray(expected))


def test_repeating_and_turning() -> None:
    x = noise(2, 3)
    np.testing.assert_array_equal(evaluated("tile", x=x, reps=[2, 3]), np.asarray(tf.tile(x, [2, 3])))
    np.testing.assert_array_equal(evaluated("reverse", x=x, axes=[-1]), np.asarray(tf.reverse(x, [1])))
    np.testing.assert_array_equal(evaluated("reverse", x=x), np.asarray(tf.reverse(x, [0, 1])))
    x, lengths = noise(5, 3, 2), np.array([1, 5, 3], np.int64)
    (expected,) = onnx_answers("ReverseSequence", {"x": x, "l": lengths}, time_axis=0, batch_axis=1)
    got = evaluated("reverse_sequence", x=x, lengths=lengths, seq_axis=0, batch_axis=1)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_windows_along_an_axis(axis: int) -> None:
    x = noise(5, 6, 7)
    got = evaluated("sliding_windows", x=x, axis=axis, size=3, stride=2)
    front = axis % 3
    for place in range(got.shape[front]):
        expected = np.take(x, range(2 * place, 2 * place + 3), front)
        np.testing.assert_array_equal(np.take(got, place, front), expected)
    assert got.shape[front] == (x.shape[front] - 3) // 2 + 1


def test_depth_and_space() -> None:
    x = noise(2, 8, 3, 4)
    (expected,) = onnx_answers("DepthToSpace", {"x": x}, blocksize=2, mode="DCR")
    np.testing.assert_array_equal(evaluated("depth_to_space", x=x, block_size=2), expected)
    (expected,) = onnx_answers("DepthToSpace", {"x": x}, blocksize=2, mode="CRD")
    np.testing.assert_array_equal(evaluated("pixel_shuffle", x=x, upscale_factor=2), expected)
    np.testing.assert_array_equal(evaluated("pixel_unshuffle", x=expected, downscale_factor=2), x)
    x = noise(2, 3, 4, 6)
    (expected,) = onnx_answers("SpaceToDepth", {"x": x}, blocksize=2)
    np.testing.assert_array_equal(evaluated("space_to_depth", x=x, block_size=2), expected)


def test_batch_and_space() -> None:
    x, pads = noise(2, 3, 5, 7), [[1, 0], [2, 3]]
    moved = tf.space_to_batch(x.transpose(0, 2, 3, 1), [2, 4], pads)
    got = evaluated("space_to_batch", x=x, block_shape=[2, 4], paddings=pads)
    np.testing.assert_array_equal(got, np.asarray(moved).transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(evaluated("batch_to_space", x=got, block_shape=[2, 4], crops=pads), x)


def test_tensors_of_nothing() -> None:
    np.testing.assert_array_equal(
        evaluated("fill", shape=[2, 3], value=1.5), np.asarray(tf.fill([2, 3], 1.5))
    )
    assert evaluated("fill_like", ref_tensor=noise(2, 3), value=-1.0).tolist() == [[-1.0] * 3] * 2
    assert evaluated("range_1d", start=2, end=11, step=3).tolist() == [2, 5, 8]
    assert evaluated("range_1d", start=1.0, end=0.0, step=-0.25).tolist() == [1.0, 0.75, 0.5, 0.25]
    assert evaluated("non_zero", x=np.array([[0, 1], [2, 0]])).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_hot_vectors(axis: int) -> None:
    """An index beyond the vector gives none, also where it is negative."""
    indices = np.array([[0, 2, 3], [-1, 1, 2]], np.int32)
    expected = tf.one_hot(indices, 3, on_value=2.0, off_value=-1.0, axis=axis)
    got = evaluated(
        "one_hot", indices=indices, one_hot_vector_size=3, axis=axis, on_value=2.0, off_value=-1.0
    )
    np.testing.assert_array_equal(got, np.asarray(expected))


@pytest.mark.parametrize(("lower", "upper"), [(-1, 0), (0, -1), (1, 2), (0, 0), (-1, -1)])
def test_bands_of_a_matrix(lower: int, upper: int) -> None:
    x = noise(2, 4, 5)
    expected = tf.linalg.band_part(x, lower, upper)
    np.testing.assert_array_equal(evaluated("band_part", x=x, lower=lower, upper=upper), np.asarray(expected))
