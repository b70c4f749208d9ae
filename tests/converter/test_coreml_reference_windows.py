"""Convolution, pooling and resizing of the reference evaluator, against ONNX Runtime and plain loops."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.coreml_reference.datatypes import Array
from converter.errors import UnsupportedOperationError
from tests.converter.coreml_oracles import agree, evaluated, noise, onnx_answers

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(deadline=None, max_examples=60)
@given(
    kernel=PAIRS, strides=PAIRS, dilations=PAIRS, groups=st.sampled_from([1, 2, 4]),
    per_group=st.integers(1, 2), pad=st.tuples(*[st.integers(0, 2)] * 4),
    pad_type=st.sampled_from(["valid", "custom", "same", "same_lower"]), bias=st.booleans(),
)  # fmt: skip
def test_convolution(
    kernel: Any,
    strides: Any,
    dilations: Any,
    groups: int,
    per_group: int,
    pad: Any,
    pad_type: str,
    *,
    bias: bool,
) -> None:
    """Grouped, depthwise, strided, dilated, padded in every way; height and width differ in all."""
    x, weight = noise(2, 4, 9, 11), noise(groups * per_group, 4 // groups, *kernel, seed=1)
    biases = noise(groups * per_group, seed=2) if bias else None
    top, bottom, left, right = pad
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": groups}
    if pad_type == "custom":
        attributes["pads"] = [top, left, bottom, right]
    else:
        automatic = {"valid": "VALID", "same": "SAME_UPPER", "same_lower": "SAME_LOWER"}
        attributes["auto_pad"] = automatic[pad_type]
    if "auto_pad" in attributes and pad_type != "valid" and max(dilations) > 1:
        # ONNX Runtime takes no dilation there; the pads the rule gives are counted here.
        attributes = {**attributes, "pads": _same_pads((9, 11), kernel, strides, dilations, pad_type)}
        del attributes["auto_pad"]
    inputs = {"x": x, "w": weight, **({} if biases is None else {"b": biases})}
    (expected,) = onnx_answers("Conv", inputs, **attributes)
    got = evaluated(
        "conv", x=x, weight=weight, bias=biases, strides=strides, dilations=dilations, groups=groups,
        pad_type=pad_type, pad=pad,
    )  # fmt: skip
    agree(got, expected)


def _same_pads(lengths: Any, kernel: Any, strides: Any, dilations: Any, pad_type: str) -> list[int]:
    befores, afters = [], []
    for n, k, s, d in zip(lengths, kernel, strides, dilations, strict=True):
        total = max(0, (math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n)
        more, less = math.ceil(total / 2), math.floor(total / 2)
        befores.append(less if pad_type == "same" else more)
        afters.append(more if pad_type == "same" else less)
    return befores + afters


@pytest.mark.parametrize("rank", [1, 3])
def test_convolution_of_other_ranks(rank: int) -> None:
    x, weight = noise(2, 3, *(6, 7, 8)[:rank]), noise(5, 3, *(2, 3, 2)[:rank], seed=1)
    (expected,) = onnx_answers("Conv", {"x": x, "w": weight}, strides=[2] * rank)
    got = evaluated("conv", x=x, weight=weight, strides=[2] * rank, pad_type="valid")
    agree(got, expected)


def test_same_padding_is_tensorflows() -> None:
    """An even length and a stride of two: the row of zeros goes below, and not on both sides."""
    x, weight = noise(1, 3, 8, 10), noise(4, 3, 3, 3, seed=1)
    expected = tf.nn.conv2d(x.transpose(0, 2, 3, 1), weight.transpose(2, 3, 1, 0), 2, "SAME")
    got = evaluated("conv", x=x, weight=weight, strides=[2, 2], pad_type="same")
    agree(got, np.asarray(expected).transpose(0, 3, 1, 2))


@settings(deadline=None, max_examples=60)
@given(
    kernel=PAIRS, strides=PAIRS, dilations=PAIRS, groups=st.sampled_from([1, 2]), bias=st.booleans(),
    pad=st.tuples(*[st.integers(0, 1)] * 4), extra=st.tuples(st.integers(0, 1), st.integers(0, 1)),
)  # fmt: skip
def test_transposed_convolution(
    kernel: Any, strides: Any, dilations: Any, groups: int, pad: Any, extra: Any, *, bias: bool
) -> None:
    x, weight = noise(2, 4, 5, 7), noise(4, 3, *kernel, seed=1)
    biases = noise(3 * groups, seed=2) if bias else None
    top, bottom, left, right = pad
    extra = tuple(min(e, s - 1) for e, s in zip(extra, strides, strict=True))
    attributes: dict[str, Any] = {
        "strides": strides, "dilations": dilations, "group": groups,
        "pads": [top, left, bottom, right], "output_padding": extra,
    }  # fmt: skip
    inputs = {"x": x, "w": weight, **({} if biases is None else {"b": biases})}
    lengths = [
        (n - 1) * s + (k - 1) * d + 1 - before - after + e
        for n, s, k, d, before, after, e in zip(
            (5, 7), strides, kernel, dilations, pad[::2], pad[1::2], extra, strict=True
        )
    ]
    if min(lengths) < 1:
        return
    (expected,) = onnx_answers("ConvTranspose", inputs, **attributes)
    shape = [2, 3 * groups, *lengths] if any(extra) else None
    got = evaluated(
        "conv_transpose", x=x, weight=weight, bias=biases, strides=strides, dilations=dilations,
        groups=groups, pad_type="custom", pad=pad, output_shape=shape,
    )  # fmt: skip
    agree(got, expected)


@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("whole", [True, False])
def test_transposed_same_padding_is_tensorflows(kernel: int, stride: int, *, whole: bool) -> None:
    """Also where the output length is one of several that a convolution would bring back."""
    x, weight = noise(1, 2, 4, 5), noise(2, 3, kernel, kernel, seed=1)
    less = 0 if whole or stride == 1 else 1
    shape = (1, 4 * stride - less, 5 * stride - less, 3)
    expected = tf.nn.conv2d_transpose(
        x.transpose(0, 2, 3, 1), weight.transpose(2, 3, 1, 0), shape, stride, "SAME"
    )
    output_shape = None if whole else [1, 3, *shape[1:3]]
    got = evaluated(
        "conv_transpose", x=x, weight=weight, strides=[stride] * 2, pad_type="same", output_shape=output_shape
    )
    agree(got, np.asarray(expected).transpose(0, 3, 1, 2))


def _pooled(kind: str, x: Array, kernel: Any, strides: Any, pad: Any, *, ceil: bool, exclude: bool) -> Array:
    """Pooling, element by element, as PyTorch's documentation words it."""
    counts = []
    for axis in range(2):
        length, before, after = x.shape[2 + axis], pad[2 * axis], pad[2 * axis + 1]
        room = (length + before + after - kernel[axis]) / strides[axis]
        count = (math.ceil(room) if ceil else math.floor(room)) + 1
        if ceil and before + after and (count - 1) * strides[axis] >= length + before:
            count -= 1
        counts.append(count)
    result = np.zeros((*x.shape[:2], *counts))
    for n, c, i, j in np.ndindex(*result.shape):
        seen, area = [], 0
        for di, dj in itertools.product(range(kernel[0]), range(kernel[1])):
            row, column = i * strides[0] + di - pad[0], j * strides[1] + dj - pad[2]
            inside = 0 <= row < x.shape[2] and 0 <= column < x.shape[3]
            padded = row < x.shape[2] + pad[1] and column < x.shape[3] + pad[3]
            if inside:
                seen.append(float(x[n, c, row, column]))
            area += inside if exclude else padded
        if kind == "max_pool":
            result[n, c, i, j] = max(seen, default=-math.inf)
        elif kind == "l2_pool":
            result[n, c, i, j] = math.sqrt(math.fsum(value * value for value in seen))
        else:
            result[n, c, i, j] = math.fsum(seen) / area if area else math.nan
    return result


@settings(deadline=None, max_examples=80)
@given(
    kind=st.sampled_from(["max_pool", "avg_pool", "l2_pool"]), kernel=PAIRS, strides=PAIRS,
    pad=st.tuples(*[st.integers(0, 2)] * 4), ceil=st.booleans(), exclude=st.booleans(),
)  # fmt: skip
def test_pooling(kind: str, kernel: Any, strides: Any, pad: Any, *, ceil: bool, exclude: bool) -> None:
    """Windows that reach beyond the padding (ceil_mode) count what is there and nothing else."""
    if ceil:  # MIL asks for the same padding on both sides
        pad = (pad[0], pad[0], pad[2], pad[2])
    pad = tuple(min(p, k - 1) for p, k in zip(pad, (kernel[0], kernel[0], kernel[1], kernel[1]), strict=True))
    x = noise(1, 2, 6, 7)
    flags: dict[str, Any] = {"exclude_padding_from_average": exclude} if kind == "avg_pool" else {}
    got = evaluated(
        kind, x=x, kernel_sizes=kernel, strides=strides, pad_type="custom", pad=pad, ceil_mode=ceil, **flags
    )
    expected = _pooled(kind, x, kernel, strides, pad, ceil=ceil, exclude=exclude)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("exclude", [True, False])
@pytest.mark.parametrize("auto", ["VALID", "SAME_UPPER", "SAME_LOWER"])
def test_automatic_padding_of_pools(auto: str, *, exclude: bool) -> None:
    x = noise(2, 3, 7, 10)
    pad_type = {"VALID": "valid", "SAME_UPPER": "same", "SAME_LOWER": "same_lower"}[auto]
    shape: dict[str, Any] = {"kernel_sizes": [3, 2], "strides": [2, 3], "pad_type": pad_type}
    common: dict[str, Any] = {"kernel_shape": [3, 2], "strides": [2, 3], "auto_pad": auto}
    (most,) = onnx_answers("MaxPool", {"x": x}, **common)
    agree(evaluated("max_pool", x=x, **shape), most)
    (mean,) = onnx_answers("AveragePool", {"x": x}, count_include_pad=not exclude, **common)
    got = evaluated("avg_pool", x=x, exclude_padding_from_average=exclude, **shape)
    agree(got, mean)


RESIZES = {
    "STRICT_ALIGN_CORNERS": "align_corners",
    "DEFAULT": "asymmetric",
    "UNALIGN_CORNERS": "half_pixel",
}


@settings(deadline=None, max_examples=40)
@given(mode=st.sampled_from(sorted(RESIZES)), height=st.integers(2, 13), width=st.integers(2, 13))
def test_bilinear_resizing(mode: str, height: int, width: int) -> None:
    x = noise(1, 2, 5, 7)
    sizes = np.array([1, 2, height, width], dtype=np.int64)
    inputs = {"x": x, "_roi": x, "_scales": x, "sizes": sizes}
    (expected,) = onnx_answers("Resize", inputs, mode="linear", coordinate_transformation_mode=RESIZES[mode])
    got = evaluated(
        "resize_bilinear", x=x, target_size_height=height, target_size_width=width, sampling_mode=mode
    )
    agree(got, expected)
    same = evaluated("resize", x=x, shape=[height, width], resized_dims=2, sampling_mode=mode)
    np.testing.assert_array_equal(same, got)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("factors", [(2, 3), (1.5, 2.25)])
def test_bilinear_upsampling(factors: tuple[float, float], *, aligned: bool) -> None:
    x = noise(1, 2, 4, 6)
    size = [int(4 * factors[0]), int(6 * factors[1])]
    expected = tf.compat.v1.image.resize_bilinear(
        x.transpose(0, 2, 3, 1), size, align_corners=aligned, half_pixel_centers=not aligned
    )
    got = evaluated(
        "upsample_bilinear", x=x, scale_factor_height=factors[0], scale_factor_width=factors[1],
        align_corners=aligned,
    )  # fmt: skip
    agree(got, np.asarray(expected).transpose(0, 3, 1, 2))


def test_the_grids_are_those_of_mils_documentation() -> None:
    """Its examples: two elements, 0 and 1, at five and at six places."""
    x = np.array([[[0.0, 1.0]]], dtype=np.float32)
    grids = {
        (5, "UNALIGN_CORNERS"): [0.0, 0.1, 0.5, 0.9, 1.0],
        (5, "ALIGN_CORNERS"): [0.0, 0.25, 0.5, 0.75, 1.0],
        (5, "DEFAULT"): [0.0, 0.4, 0.8, 1.0, 1.0],
        (5, "OFFSET_CORNERS"): [0.1, 0.3, 0.5, 0.7, 0.9],
        (6, "UNALIGN_CORNERS"): [0.0, 0.0, 1 / 3, 2 / 3, 1.0, 1.0],
        (6, "STRICT_ALIGN_CORNERS"): [0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
        (6, "DEFAULT"): [0.0, 1 / 3, 2 / 3, 1.0, 1.0, 1.0],
        (6, "OFFSET_CORNERS"): [1 / 12, 3 / 12, 5 / 12, 7 / 12, 9 / 12, 11 / 12],
        (1, "ALIGN_CORNERS"): [0.5],
        (1, "STRICT_ALIGN_CORNERS"): [0.0],
    }
    for (width, mode), expected in grids.items():
        got = evaluated(
            "resize_bilinear", x=x, target_size_height=1, target_size_width=width, sampling_mode=mode
        )
        np.testing.assert_allclose(got[0, 0], expected, atol=1e-12, err_msg=mode)


@pytest.mark.parametrize("size", [(10, 21), (5, 7), (8, 9), (3, 2)])
def test_nearest_resizing(size: tuple[int, int]) -> None:
    x = noise(1, 2, 5, 7)
    sizes = np.array([1, 2, *size], dtype=np.int64)
    inputs = {"x": x, "_roi": x, "_scales": x, "sizes": sizes}
    (expected,) = onnx_answers(
        "Resize", inputs, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    got = evaluated("resize_nearest_neighbor", x=x, target_size_height=size[0], target_size_width=size[1])
    np.testing.assert_allclose(got, expected)
    up = evaluated(
        "upsample_nearest_neighbor", x=x, scale_factor_height=size[0] / 5, scale_factor_width=size[1] / 7
    )
    np.testing.assert_allclose(up, expected)


@pytest.mark.parametrize("padding", ["constant", "border"])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
def test_sampling_at_places(padding: str, sampling: str, *, aligned: bool) -> None:
    x = noise(2, 3, 5, 7)
    places = np.random.default_rng(3).uniform(-1.3, 1.3, (2, 4, 6, 2)).astype(np.float32)
    attributes: dict[str, Any] = {
        "padding_mode": {"constant": "zeros", "border": "border"}[padding],
        "mode": {"bilinear": "linear", "nearest": "nearest"}[sampling],
    }
    (expected,) = onnx_answers("GridSample", {"x": x, "grid": places}, align_corners=aligned, **attributes)
    got = evaluated(
        "resample", x=x, coordinates=places, sampling_mode=sampling, padding_mode=padding, padding_value=0.0,
        coordinates_mode="normalized_minus_one_to_one", align_corners=aligned,
    )  # fmt: skip
    agree(got, expected)


def test_crops_are_resized_like_tensorflows() -> None:
    x = noise(2, 3, 6, 9)
    boxes = np.array([[0.1, 0.2, 0.9, 0.7], [0.0, 0.0, 1.0, 1.0], [-0.2, 0.3, 0.5, 1.2]], dtype=np.float32)
    expected = tf.image.crop_and_resize(x.transpose(0, 2, 3, 1), boxes, [1, 0, 1], [4, 5])
    got = evaluated(
        "crop_resize", x=x, boxes=boxes, box_indices=[1, 0, 1], target_height=4, target_width=5,
        normalized_coordinates=True, sampling_mode="ALIGN_CORNERS",
    )  # fmt: skip
    agree(got, np.asarray(expected).transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("conv", {"weight": noise(1, 1, 3, 3), "pad_type": "circular"}),
        ("conv_transpose", {"weight": noise(1, 1, 3, 3), "pad_type": "circular"}),
        ("resize", {"shape": [3, 3], "resized_dims": 2, "interpolation_mode": "CUBIC"}),
        ("resize_bilinear", {"target_size_height": 2, "sampling_mode": "LIKE_BEFORE"}),
    ],
)
def test_a_variety_not_known_is_refused_by_name(kind: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedOperationError, match=kind):
        evaluated(kind, x=noise(1, 1, 4, 5), **arguments)
