"""Element-wise operations, activations, normalisation, products and reductions of the reference evaluator."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.coreml_reference.datatypes import Array
from converter.errors import UnsupportedOperationError
from tests.converter.coreml_oracles import agree, evaluated, noise, onnx_answers

UNARY: dict[str, Callable[[float], float]] = {
    "abs": math.fabs, "acos": math.acos, "asin": math.asin, "atan": math.atan, "atanh": math.atanh,
    "ceil": math.ceil, "cos": math.cos, "cosh": math.cosh, "erf": math.erf, "exp": math.exp,
    "exp2": lambda x: 2.0**x, "floor": math.floor, "identity": lambda x: x, "round": round,
    "sign": lambda x: float((x > 0) - (x < 0)), "sin": math.sin, "sinh": math.sinh,
    "square": lambda x: x * x, "tan": math.tan, "tanh": math.tanh,
    "relu": lambda x: max(x, 0.0), "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "silu": lambda x: x / (1 + math.exp(-x)), "softplus": lambda x: math.log(1 + math.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
}  # fmt: skip
POSITIVE: dict[str, tuple[Callable[[float], float], dict[str, float]]] = {
    "sqrt": (math.sqrt, {}),
    "log": (math.log, {}),
    "rsqrt": (lambda x: x**-0.5, {}),
    "inverse": (lambda x: 1 / (x + 1e-4), {}),
}
WITH_EPSILON: dict[str, Callable[[float], float]] = {
    "log": lambda x: math.log(x + 0.5),
    "rsqrt": lambda x: (x + 0.5) ** -0.5,
    "inverse": lambda x: 1 / (x + 0.5),
}
BINARY: dict[str, Callable[[float, float], float | bool]] = {
    "add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y,
    "real_div": lambda x, y: x / y, "floor_div": lambda x, y: x // y, "mod": lambda x, y: x % y,
    "maximum": max, "minimum": min, "equal": lambda x, y: x == y, "not_equal": lambda x, y: x != y,
    "greater": lambda x, y: x > y, "greater_equal": lambda x, y: x >= y, "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y, "logical_and": lambda x, y: bool(x) and bool(y),
    "logical_or": lambda x, y: bool(x) or bool(y), "logical_xor": lambda x, y: bool(x) != bool(y),
}  # fmt: skip


def _each(function: Callable[..., Any], *arrays: Array) -> Array:
    return np.array([function(*map(float, row)) for row in zip(*(a.ravel() for a in arrays), strict=True)])


@pytest.mark.parametrize("kind", sorted(UNARY))
def test_functions_of_one_number(kind: str) -> None:
    x = np.concatenate([np.linspace(-0.95, 0.95, 20), [0.0, 0.5, -0.5]]).astype(np.float32)
    np.testing.assert_allclose(evaluated(kind, x=x), _each(UNARY[kind], x), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", sorted(POSITIVE))
def test_functions_of_a_positive_number(kind: str) -> None:
    x = np.linspace(0.01, 9.0, 20).astype(np.float32)
    function, arguments = POSITIVE[kind]
    np.testing.assert_allclose(evaluated(kind, x=x, **arguments), _each(function, x), rtol=1e-9)
    if kind in WITH_EPSILON:
        got = evaluated(kind, x=x, epsilon=0.5)
        np.testing.assert_allclose(got, _each(WITH_EPSILON[kind], x), rtol=1e-12)


def test_rounding_is_to_the_even_neighbour() -> None:
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert evaluated("round", x=x).tolist() == [-2.0, -2.0, 0.0, 0.0, 2.0, 2.0]


@pytest.mark.parametrize("kind", sorted(BINARY))
@pytest.mark.parametrize("whole", [True, False])
def test_functions_of_two_numbers(kind: str, *, whole: bool) -> None:
    """Negative divisors too: floor_div and mod go by Python's rule."""
    values = [-3, -2, -1, 1, 2, 3] if whole else [-2.75, -1.0, -0.5, 0.5, 1.0, 2.75]
    dtype = np.int32 if whole else np.float32
    x, y = (np.array(side, dtype) for side in zip(*itertools.product(values, values), strict=True))
    np.testing.assert_allclose(evaluated(kind, x=x, y=y), _each(BINARY[kind], x, y), rtol=1e-12)


def test_powers_of_whole_numbers_with_negative_exponents() -> None:
    got = evaluated("pow", x=np.array([2, 4], np.int32), y=np.array([-1, 2], np.int32))
    assert got.tolist() == [0.5, 16.0]


def test_shapes_are_stretched_as_numpy_stretches_them() -> None:
    got = evaluated("add", x=noise(2, 1, 3), y=noise(4, 1, seed=1))
    assert got.shape == (2, 4, 3)
    np.testing.assert_allclose(got[1, 2], noise(2, 1, 3)[1, 0] + noise(4, 1, seed=1)[2, 0])


def test_choice_and_bounds() -> None:
    condition, a, b = np.array([True, False, True]), noise(3), noise(3, seed=1)
    assert evaluated("select", cond=condition, a=a, b=b).tolist() == [a[0], b[1], a[2]]
    x = np.array([-2.0, 0.25, 3.0], np.float32)
    assert evaluated("clip", x=x, alpha=-1.0, beta=1.0).tolist() == [-1.0, 0.25, 1.0]
    assert evaluated("threshold", x=x, alpha=0.0).tolist() == [0.0, 0.25, 3.0]
    assert evaluated("logical_not", x=condition).tolist() == [False, True, False]


def test_a_cast_cuts_toward_zero() -> None:
    x = np.array([-1.7, -0.2, 0.9, 2.5], np.float32)
    assert evaluated("cast", x=x, dtype="int32").tolist() == [-1, 0, 0, 2]
    assert evaluated("cast", x=x, dtype="fp16").tolist() == x.astype(np.float64).tolist()


# Activations -----------------------------------------------------------------------------------------

ACTIVATIONS: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("elu", {"alpha": 0.7}, "Elu", {"alpha": 0.7}),
    ("gelu", {}, "Gelu", {}),
    ("gelu", {"mode": "EXACT"}, "Gelu", {"approximate": "none"}),
    ("gelu", {"mode": "TANH_APPROXIMATION"}, "Gelu", {"approximate": "tanh"}),
    ("leaky_relu", {"alpha": 0.3}, "LeakyRelu", {"alpha": 0.3}),
    ("sigmoid_hard", {"alpha": 0.3, "beta": 0.4}, "HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    ("softmax", {"axis": 1}, "Softmax", {"axis": 1}),
    ("softmax", {}, "Softmax", {"axis": -1}),
    ("thresholded_relu", {"alpha": 0.4}, "ThresholdedRelu", {"alpha": 0.4}),
]


@pytest.mark.parametrize(("kind", "arguments", "onnx", "attributes"), ACTIVATIONS)
def test_activations(kind: str, arguments: Any, onnx: str, attributes: Any) -> None:
    x = noise(2, 3, 5) * 3
    (expected,) = onnx_answers(onnx, {"x": x}, **attributes)
    agree(evaluated(kind, x=x, **arguments), expected)


FORMULAS: list[tuple[str, dict[str, Any], Callable[[float], float]]] = [
    ("clamped_relu", {"alpha": 0.5, "beta": 1.5}, lambda x: min(1.5, x if x >= 0 else 0.5 * x)),
    ("gelu", {"mode": "SIGMOID_APPROXIMATION"}, lambda x: x / (1 + math.exp(-1.702 * x))),
    ("linear_activation", {"alpha": 2.0, "beta": -1.0}, lambda x: 2 * x - 1),
    ("relu6", {}, lambda x: min(6.0, max(0.0, x))),
    ("scaled_tanh", {"alpha": 1.5, "beta": 0.7}, lambda x: 1.5 * math.tanh(0.7 * x)),
]


@pytest.mark.parametrize(("kind", "arguments", "function"), FORMULAS)
def test_activations_by_formula(kind: str, arguments: Any, function: Callable[[float], float]) -> None:
    x = noise(40) * 4
    np.testing.assert_allclose(evaluated(kind, x=x, **arguments), _each(function, x), rtol=1e-12, atol=1e-15)


def test_activations_with_a_number_for_each_channel() -> None:
    x, alpha, beta = noise(2, 3, 4, 5), noise(3, seed=1), noise(3, seed=2)
    (expected,) = onnx_answers("PRelu", {"x": x, "slope": alpha.reshape(3, 1, 1)})
    agree(evaluated("prelu", x=x, alpha=alpha), expected)
    got = evaluated("softplus_parametric", x=x, alpha=alpha, beta=beta)
    for channel in range(3):
        plane = [a * math.log1p(math.exp(b * v)) for a, b, v in _with(alpha, beta, channel, x)]
        np.testing.assert_allclose(got[:, channel].ravel(), plane, rtol=1e-12)


def _with(alpha: Array, beta: Array, channel: int, x: Array) -> list[tuple[float, float, float]]:
    return [(float(alpha[channel]), float(beta[channel]), float(v)) for v in x[:, channel].ravel()]


def test_great_numbers_do_not_overflow() -> None:
    x = np.array([-1000.0, 0.0, 1000.0], np.float32)
    assert evaluated("sigmoid", x=x).tolist() == [0.0, 0.5, 1.0]
    assert evaluated("softplus", x=x).tolist() == [0.0, math.log(2), 1000.0]
    assert evaluated("softmax", x=x).tolist() == [0.0, 0.0, 1.0]


def test_an_unknown_gelu_is_refused() -> None:
    with pytest.raises(UnsupportedOperationError, match="gelu: mode wild"):
        evaluated("gelu", x=noise(3), mode="wild")


# Normalisation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 4, 5)])
@pytest.mark.parametrize("scaled", [True, False])
def test_batch_and_instance_normalisation(shape: tuple[int, ...], *, scaled: bool) -> None:
    x, gamma, beta = noise(*shape), noise(3, seed=1), noise(3, seed=2)
    mean, variance = noise(3, seed=3), np.abs(noise(3, seed=4)) + 0.1
    one, zero = np.ones(3, np.float32), np.zeros(3, np.float32)
    given: dict[str, Any] = {"gamma": gamma, "beta": beta} if scaled else {}
    scale = {"s": gamma, "b": beta} if scaled else {"s": one, "b": zero}
    inputs = {"x": x, **scale, "mean": mean, "variance": variance}
    (expected,) = onnx_answers("BatchNormalization", inputs, epsilon=1e-3)
    got = evaluated("batch_norm", x=x, mean=mean, variance=variance, epsilon=1e-3, **given)
    agree(got, expected)
    (expected,) = onnx_answers("InstanceNormalization", {"x": x, **scale}, epsilon=1e-5)
    agree(evaluated("instance_norm", x=x, **given), expected)


def test_layer_normalisation_over_the_last_axes() -> None:
    x, gamma, beta = noise(2, 3, 4, 5), noise(4, 5, seed=1), noise(4, 5, seed=2)
    (expected,) = onnx_answers("LayerNormalization", {"x": x, "s": gamma, "b": beta}, axis=2, epsilon=1e-4)
    got = evaluated("layer_norm", x=x, axes=[-2, -1], gamma=gamma, beta=beta, epsilon=1e-4)
    agree(got, expected)


def test_layer_normalisation_over_a_middle_axis() -> None:
    x, gamma = noise(2, 3, 5), noise(3, seed=1)
    (expected,) = onnx_answers(
        "LayerNormalization", {"x": x.transpose(0, 2, 1).copy(), "s": gamma}, axis=-1, epsilon=1e-5
    )
    got = evaluated("layer_norm", x=x, axes=[1], gamma=gamma)
    agree(got, expected.transpose(0, 2, 1))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_local_response_normalisation(size: int) -> None:
    x = noise(2, 6, 3, 4)
    attributes: dict[str, Any] = {"alpha": 0.2, "beta": 0.6, "bias": 1.5}
    expected = np.zeros(x.shape)
    # By hand where the neighbourhood is even: MIL and ONNX put the odd neighbour on different sides.
    if size % 2:
        (expected,) = onnx_answers("LRN", {"x": x}, size=size, **attributes)
    else:
        for channel in range(6):
            near = x[:, max(0, channel - size // 2) : channel + size - size // 2].astype(np.float64)
            base = 1.5 + 0.2 / size * (near**2).sum(axis=1)
            expected[:, channel] = x[:, channel] / base**0.6
    got = evaluated("local_response_norm", x=x, size=size, alpha=0.2, beta=0.6, k=1.5)
    agree(got, expected)


def test_l2_normalisation_is_of_the_last_three_axes() -> None:
    x = noise(2, 3, 4, 5)
    got = evaluated("l2_norm", x=x, epsilon=0.0)
    for row in got:
        assert math.fsum(float(v) ** 2 for v in row.ravel()) == pytest.approx(1.0)
    np.testing.assert_allclose(got[0] / got[0, 0, 0, 0], x[0] / x[0, 0, 0, 0], rtol=1e-6)


# Products --------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    batch=st.sampled_from([((), ()), ((2,), (2,)), ((2, 1), (1, 3)), ((), (2, 3))]),
    transpose_x=st.booleans(), transpose_y=st.booleans(),
)  # fmt: skip
def test_matrix_products(batch: Any, *, transpose_x: bool, transpose_y: bool) -> None:
    x = noise(*batch[0], *((5, 4) if transpose_x else (4, 5)))
    y = noise(*batch[1], *((6, 5) if transpose_y else (5, 6)), seed=1)
    expected = tf.linalg.matmul(x, y, transpose_a=transpose_x, transpose_b=transpose_y)
    got = evaluated("matmul", x=x, y=y, transpose_x=transpose_x, transpose_y=transpose_y)
    agree(got, np.asarray(expected))


def test_linear_layers_and_sums_over_products() -> None:
    x, weight, bias = noise(2, 5), noise(3, 5, seed=1), noise(3, seed=2)
    (expected,) = onnx_answers("Gemm", {"x": x, "w": weight, "b": bias}, transB=1)
    agree(evaluated("linear", x=x, weight=weight, bias=bias), expected)
    values = [noise(2, 3, 4), noise(2, 4, 5, seed=1)]
    (expected,) = onnx_answers("Einsum", {"x": values[0], "y": values[1]}, equation="nij,njk->nik")
    agree(evaluated("einsum", values=values, equation="nij,njk->nik"), expected)


@pytest.mark.parametrize("mask", ["none", "float", "bool"])
def test_attention(mask: str) -> None:
    """Each query by itself: a weighted mean of the values it may see."""
    query, key, value = noise(2, 3, 4, 6), noise(2, 3, 5, 6, seed=1), noise(2, 3, 5, 7, seed=2)
    seen = np.random.default_rng(3).random((4, 5)) > 0.3
    seen[:, 0] = True
    given = {"none": None, "float": noise(4, 5, seed=4), "bool": seen}[mask]
    got = evaluated("scaled_dot_product_attention", query=query, key=key, value=value, attn_mask=given)
    for n, h, i in np.ndindex(2, 3, 4):
        weights = []
        for j in range(5):
            score = math.fsum(map(float, query[n, h, i] * key[n, h, j])) / math.sqrt(6)
            if mask == "float" and given is not None:
                score += float(given[i, j])
            weights.append(math.exp(score) if mask != "bool" or seen[i, j] else 0.0)
        mean = sum(w * value[n, h, j].astype(np.float64) for j, w in enumerate(weights)) / sum(weights)
        np.testing.assert_allclose(got[n, h, i], mean, rtol=1e-5, atol=1e-6)


# Reductions ------------------------------------------------------------------------------------------

REDUCTIONS = {
    "reduce_l1_norm": "ReduceL1", "reduce_l2_norm": "ReduceL2", "reduce_log_sum_exp": "ReduceLogSumExp",
    "reduce_max": "ReduceMax", "reduce_mean": "ReduceMean", "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd", "reduce_sum": "ReduceSum", "reduce_sum_square": "ReduceSumSquare",
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(REDUCTIONS))
@pytest.mark.parametrize("axes", [None, [1], [0, -1], [-2]])
@pytest.mark.parametrize("keep", [True, False])
def test_reductions(kind: str, axes: list[int] | None, *, keep: bool) -> None:
    x = noise(2, 3, 4)
    inputs = {"x": x, **({} if axes is None else {"axes": np.array(axes, np.int64)})}
    (expected,) = onnx_answers(REDUCTIONS[kind], inputs, keepdims=keep)
    agree(evaluated(kind, x=x, axes=axes, keep_dims=keep), expected)


def test_the_logarithm_of_a_sum() -> None:
    x = np.abs(noise(2, 3, 4)) + 0.1
    (expected,) = onnx_answers("ReduceLogSum", {"x": x, "axes": np.array([1], np.int64)}, keepdims=False)
    agree(evaluated("reduce_log_sum", x=x, axes=[1]), expected)


def test_an_axis_beyond_the_rank_is_an_error() -> None:
    with pytest.raises(ValueError, match="of a tensor of rank 2"):
        evaluated("reduce_sum", x=noise(2, 3), axes=[2])


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("keep", [True, False])
def test_places_of_extremes(axis: int, *, keep: bool) -> None:
    x = noise(3, 4, 5)
    for kind, onnx in (("reduce_argmax", "ArgMax"), ("reduce_argmin", "ArgMin")):
        (expected,) = onnx_answers(onnx, {"x": x}, axis=axis, keepdims=keep)
        np.testing.assert_array_equal(evaluated(kind, x=x, axis=axis, keep_dims=keep), expected)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
def test_running_sums(axis: int, *, exclusive: bool, reverse: bool) -> None:
    x = noise(3, 4)
    inputs = {"x": x, "axis": np.array(axis, np.int64)}
    (expected,) = onnx_answers("CumSum", inputs, exclusive=exclusive, reverse=reverse)
    got = evaluated("cumsum", x=x, axis=axis, exclusive=exclusive, reverse=reverse)
    agree(got, expected)


@settings(deadline=None, max_examples=30)
@given(
    k=st.integers(1, 4), axis=st.sampled_from([0, 1, -1]), ascending=st.booleans(), seed=st.integers(0, 99)
)
def test_the_greatest_elements(k: int, axis: int, seed: int, *, ascending: bool) -> None:
    """Of equal elements the first is taken, whichever way they are ordered."""
    x = np.random.default_rng(seed).integers(0, 5, (4, 6)).astype(np.float32)
    inputs: dict[str, Array] = {"x": x, "k": np.array([k], np.int64)}
    values, places = onnx_answers("TopK", inputs, outputs=2, axis=axis, largest=not ascending)
    got = evaluated("topk", x=x, k=k, axis=axis, ascending=ascending)
    np.testing.assert_array_equal(got[0], values)
    np.testing.assert_array_equal(got[1], places)
    np.testing.assert_array_equal(
        evaluated("topk", x=x, k=k, axis=axis, ascending=ascending, return_indices=False), values
    )
    order = evaluated("argsort", x=x, axis=axis, ascending=ascending)
    np.testing.assert_array_equal(np.take(order, range(k), axis), places)
