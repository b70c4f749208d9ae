"""Activation functions."""

from __future__ import annotations

import numpy as np

from converter.onnx_to_mil.node import Convert, Node, Value, dims, mb

__all__ = ["OPERATORS"]

_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def _simple(make: str) -> Convert:
    def convert(node: Node) -> Value:
        return getattr(mb, make)(x=node.var(0))

    return convert


def _with_alpha(make: str, default: float) -> Convert:
    def convert(node: Node) -> Value:
        return getattr(mb, make)(x=node.var(0), alpha=np.float32(node.attr("alpha", default)))

    return convert


def _selu(node: Node) -> Value:
    alpha, gamma = node.attr("alpha", _SELU_ALPHA), node.attr("gamma", _SELU_GAMMA)
    return mb.mul(x=mb.elu(x=node.var(0), alpha=np.float32(alpha)), y=np.float32(gamma))


def _celu(node: Node) -> Value:
    x, alpha = node.var(0), node.attr("alpha", 1.0)
    below = mb.exp(x=mb.mul(x=mb.minimum(x=x, y=np.float32(0)), y=np.float32(1 / alpha)))
    below = mb.mul(x=mb.sub(x=below, y=np.float32(1)), y=np.float32(alpha))
    return mb.add(x=mb.relu(x=x), y=below)


def _prelu(node: Node) -> Value:
    x, slope = node.var(0), node.var(1)
    below = mb.mul(x=mb.minimum(x=x, y=np.float32(0)), y=slope)
    return mb.add(x=mb.relu(x=x), y=below)


def _hard_sigmoid(node: Node) -> Value:
    alpha, beta = np.float32(node.attr("alpha", 0.2)), np.float32(node.attr("beta", 0.5))
    return mb.sigmoid_hard(x=node.var(0), alpha=alpha, beta=beta)


def _hard_swish(node: Node) -> Value:
    x = node.var(0)
    return mb.mul(x=x, y=mb.sigmoid_hard(x=x, alpha=np.float32(1 / 6), beta=np.float32(0.5)))


def _mish(node: Node) -> Value:
    x = node.var(0)
    return mb.mul(x=x, y=mb.tanh(x=mb.softplus(x=x)))


def _gelu(node: Node) -> Value:
    kinds = {"none": "EXACT", "tanh": "TANH_APPROXIMATION"}
    kind = node.attr("approximate", "none")
    if kind not in kinds:
        node.refuse(f"approximate {kind}")
    return mb.gelu(x=node.var(0), mode=kinds[kind])


def _thresholded(node: Node) -> Value:
    x, alpha = node.var(0), np.float32(node.attr("alpha", 1.0))
    # `thresholded_relu` keeps what equals alpha; ONNX does not.
    return mb.mul(x=x, y=mb.cast(x=mb.greater(x=x, y=alpha), dtype="fp32"))


def _shrink(node: Node) -> Value:
    x, bias, bound = node.var(0), node.attr("bias", 0.0), node.attr("lambd", 0.5)
    above = mb.cast(x=mb.greater(x=x, y=np.float32(bound)), dtype="fp32")
    below = mb.cast(x=mb.less(x=x, y=np.float32(-bound)), dtype="fp32")
    up = mb.mul(x=above, y=mb.sub(x=x, y=np.float32(bias)))
    return mb.add(x=up, y=mb.mul(x=below, y=mb.add(x=x, y=np.float32(bias))))


def _softmax(node: Node) -> Value:
    return mb.softmax(x=node.var(0), axis=node.attr("axis", -1))


def _log_softmax(node: Node) -> Value:
    x, axis = node.var(0), node.attr("axis", -1)
    shifted = mb.sub(x=x, y=mb.reduce_max(x=x, axes=[axis], keep_dims=True))
    total = mb.reduce_sum(x=mb.exp(x=shifted), axes=[axis], keep_dims=True)
    return mb.sub(x=shifted, y=mb.log(x=total))


def _hardmax(node: Node) -> Value:
    x, axis = node.var(0), node.attr("axis", -1)
    axis %= len(dims(x))
    best = mb.reduce_argmax(x=x, axis=axis, keep_dims=False)
    return mb.one_hot(
        indices=best,
        one_hot_vector_size=dims(x)[axis],
        axis=axis,
        on_value=np.float32(1),
        off_value=np.float32(0),
    )


OPERATORS: dict[str, Convert] = {
    "Relu": _simple("relu"), "Sigmoid": _simple("sigmoid"), "Tanh": _simple("tanh"),
    "Softplus": _simple("softplus"), "Softsign": _simple("softsign"), "Elu": _with_alpha("elu", 1.0),
    "LeakyRelu": _with_alpha("leaky_relu", 0.01), "Selu": _selu, "Celu": _celu, "PRelu": _prelu,
    "HardSigmoid": _hard_sigmoid, "HardSwish": _hard_swish, "Mish": _mish, "Gelu": _gelu,
    "ThresholdedRelu": _thresholded, "Shrink": _shrink, "Softmax": _softmax, "LogSoftmax": _log_softmax,
    "Hardmax": _hardmax,
}  # fmt: skip
