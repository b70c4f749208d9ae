"""Normalisations: batch, instance, layer, group, and by a norm."""

from __future__ import annotations

import math

import numpy as np

from converter.onnx_to_mil.node import Convert, Node, Value, dims, mb

__all__ = ["OPERATORS"]

_LEAST, _MOST = 3, 5
"""Ranks `batch_norm` takes."""


def _batch(node: Node) -> Value:
    if node.attr("training_mode", 0) or node.wanted(1):
        node.refuse("training mode")
    x, epsilon = node.var(0), np.float32(node.attr("epsilon", 1e-5))
    if all(node.known(index) for index in range(1, 5)) and _LEAST <= len(dims(x)) <= _MOST:
        gamma, beta, mean, variance = (
            node.constant(index, "statistics").astype(np.float32) for index in range(1, 5)
        )
        return mb.batch_norm(x=x, mean=mean, variance=variance, gamma=gamma, beta=beta, epsilon=epsilon)
    shape = [1, -1] + [1] * (len(dims(x)) - 2)
    gamma, beta, mean, variance = (mb.reshape(x=node.var(index), shape=shape) for index in range(1, 5))
    scale = mb.real_div(x=gamma, y=mb.sqrt(x=mb.add(x=variance, y=epsilon)))
    return mb.add(x=mb.mul(x=mb.sub(x=x, y=mean), y=scale), y=beta)


def _centred(x: Value, axes: list[int], epsilon: float) -> tuple[Value, Value, Value]:
    """Normalised over axes, with the mean and the inverse of the deviation."""
    mean = mb.reduce_mean(x=x, axes=axes, keep_dims=True)
    away = mb.sub(x=x, y=mean)
    variance = mb.reduce_mean(x=mb.mul(x=away, y=away), axes=axes, keep_dims=True)
    inverse = mb.real_div(x=np.float32(1), y=mb.sqrt(x=mb.add(x=variance, y=np.float32(epsilon))))
    return mb.mul(x=away, y=inverse), mean, inverse


def _instance(node: Node) -> Value:
    x, epsilon = node.var(0), node.attr("epsilon", 1e-5)
    rank = len(dims(x))
    if node.known(1) and node.known(2) and rank in (3, 4):
        gamma, beta = (node.constant(index, "scales").astype(np.float32) for index in (1, 2))
        return mb.instance_norm(x=x, gamma=gamma, beta=beta, epsilon=np.float32(epsilon))
    normal, _, _ = _centred(x, list(range(2, rank)), epsilon)
    return _scaled(normal, node, [1, -1] + [1] * (rank - 2))


def _scaled(x: Value, node: Node, shape: list[int]) -> Value:
    x = mb.mul(x=x, y=mb.reshape(x=node.var(1), shape=shape))
    return mb.add(x=x, y=mb.reshape(x=node.var(2), shape=shape))


def _layer(node: Node) -> Value:
    x, epsilon = node.var(0), node.attr("epsilon", 1e-5)
    rank = len(dims(x))
    axes = list(range(node.attr("axis", -1) % rank, rank))
    normalised = tuple(dims(x)[axis] for axis in axes)
    fits = node.known(1) and dims(node.var(1)) == normalised
    fits = fits and (not node.has(2) or (node.known(2) and dims(node.var(2)) == normalised))
    if fits and not node.wanted(1) and not node.wanted(2):
        more = {"beta": node.constant(2, "bias").astype(np.float32)} if node.has(2) else {}
        gamma = node.constant(1, "scale").astype(np.float32)
        return mb.layer_norm(x=x, axes=axes, gamma=gamma, epsilon=np.float32(epsilon), **more)
    normal, mean, inverse = _centred(x, axes, epsilon)
    result = mb.mul(x=normal, y=node.var(1))
    if node.has(2):
        result = mb.add(x=result, y=node.var(2))
    return (result, mean, inverse)[: len(node.outputs)] if len(node.outputs) > 1 else result


def _group(node: Node) -> Value:
    x, groups = node.var(0), node.attr("num_groups")
    own = dims(x)
    apart = mb.reshape(x=x, shape=[own[0], groups, math.prod(own[1:]) // groups])
    normal, _, _ = _centred(apart, [2], node.attr("epsilon", 1e-5))
    scale = dims(node.var(1))[0]
    if scale == own[1]:  # since opset 21 one scale a channel; before that one a group
        normal = mb.reshape(x=normal, shape=list(own))
        return _scaled(normal, node, [1, -1] + [1] * (len(own) - 2))
    return mb.reshape(x=_scaled(normal, node, [1, -1, 1]), shape=list(own))


def _mean_variance(node: Node) -> Value:
    x = node.var(0)
    axes = [axis % len(dims(x)) for axis in node.attr("axes", [0, 2, 3])]
    mean = mb.reduce_mean(x=x, axes=axes, keep_dims=True)
    square = mb.reduce_mean(x=mb.mul(x=x, y=x), axes=axes, keep_dims=True)
    deviation = mb.sqrt(x=mb.sub(x=square, y=mb.mul(x=mean, y=mean)))
    return mb.real_div(x=mb.sub(x=x, y=mean), y=mb.add(x=deviation, y=np.float32(1e-9)))


def _norm(node: Node) -> Value:
    x, axis = node.var(0), node.attr("axis", -1)
    if node.attr("p", 2) == 1:
        size = mb.reduce_sum(x=mb.abs(x=x), axes=[axis], keep_dims=True)
    else:
        size = mb.sqrt(x=mb.reduce_sum(x=mb.mul(x=x, y=x), axes=[axis], keep_dims=True))
    nothing = mb.cast(x=mb.equal(x=size, y=np.float32(0)), dtype="fp32")  # ONNX answers 0 there
    return mb.real_div(x=x, y=mb.add(x=size, y=nothing))


def _local_response(node: Node) -> Value:
    size = node.attr("size")
    if not size % 2:
        node.refuse("an even size")
    return mb.local_response_norm(
        x=node.var(0), size=size, alpha=np.float32(node.attr("alpha", 1e-4)),
        beta=np.float32(node.attr("beta", 0.75)), k=np.float32(node.attr("bias", 1.0)),
    )  # fmt: skip


def _dropout(node: Node) -> Value:
    if node.wanted(1):
        node.refuse("its mask is used")
    if node.has(2) and node.constant(2, "mode").any():
        node.refuse("training mode")
    return mb.identity(x=node.var(0))


OPERATORS: dict[str, Convert] = {
    "BatchNormalization": _batch, "InstanceNormalization": _instance, "LayerNormalization": _layer,
    "GroupNormalization": _group, "MeanVarianceNormalization": _mean_variance, "LpNormalization": _norm,
    "LRN": _local_response, "Dropout": _dropout,
}  # fmt: skip
