"""Activations, softmax among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from converter.coreml_reference.arguments import Arguments, Compute
from converter.coreml_reference.datatypes import Array
from converter.coreml_reference.elementwise import erf

__all__ = ["BY_NAME", "OPERATIONS", "sigmoid", "softmax"]


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^−x), without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


def softmax(x: Array, axis: int) -> Array:
    """e^x over its sum; a row that is masked whole (all −∞) gives NaN."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _gelu(a: Arguments) -> Array:
    x, mode = a["x"], a.text("mode", "exact")
    if mode == "exact":
        return 0.5 * x * (1.0 + erf(x / np.sqrt(2.0)))
    if mode == "tanh_approximation":
        return np.asarray(0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))))
    if mode == "sigmoid_approximation":
        return x * sigmoid(1.702 * x)
    raise a.unsupported(f"mode {mode}")


def _elu(a: Arguments) -> Array:
    x = a["x"]
    return np.where(x > 0, x, a.number("alpha") * np.expm1(np.minimum(x, 0.0)))


def _per_channel(vector: Array, rank: int) -> Array:
    return vector.reshape(1, -1, *(1,) * (rank - 2))


def _prelu(a: Arguments) -> Array:
    x = a["x"]
    return np.where(x > 0, x, x * _per_channel(a["alpha"], x.ndim))


def _softplus_parametric(a: Arguments) -> Array:
    x = a["x"]
    alpha, beta = _per_channel(a["alpha"], x.ndim), _per_channel(a["beta"], x.ndim)
    return alpha * _softplus(beta * x)


def _clamped_relu(a: Arguments) -> Array:
    x = a["x"]
    return np.minimum(np.where(x >= 0, x, a.number("alpha") * x), a.number("beta"))


def _leaky_relu(a: Arguments) -> Array:
    x = a["x"]
    return np.where(x >= 0, x, a.number("alpha") * x)


def _thresholded_relu(a: Arguments) -> Array:
    x = a["x"]
    return np.where(x >= a.number("alpha"), x, 0.0)


BY_NAME: Mapping[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
}
"""What recurrent layers may name, but those whose constants MIL leaves open."""

OPERATIONS: Mapping[str, Compute] = {
    "clamped_relu": _clamped_relu,
    "elu": _elu,
    "gelu": _gelu,
    "leaky_relu": _leaky_relu,
    "linear_activation": lambda a: a.number("alpha") * a["x"] + a.number("beta"),
    "prelu": _prelu,
    "relu": lambda a: np.maximum(a["x"], 0.0),
    "relu6": lambda a: np.clip(a["x"], 0.0, 6.0),
    "scaled_tanh": lambda a: a.number("alpha") * np.tanh(a.number("beta") * a["x"]),
    "sigmoid": lambda a: sigmoid(a["x"]),
    "sigmoid_hard": lambda a: np.clip(a.number("alpha") * a["x"] + a.number("beta"), 0.0, 1.0),
    "silu": lambda a: a["x"] * sigmoid(a["x"]),
    "softmax": lambda a: softmax(a["x"], a.integer("axis", -1)),
    "softplus": lambda a: _softplus(a["x"]),
    "softplus_parametric": _softplus_parametric,
    "softsign": lambda a: a["x"] / (1.0 + np.abs(a["x"])),
    "thresholded_relu": _thresholded_relu,
}
