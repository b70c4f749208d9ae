"""Normalisations: batch, instance, layer, group, and by a norm."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from converter.onnx_to_torch.node import Convert, Node, as_tensor

__all__ = ["OPERATORS"]


def _batch(node: Node) -> torch.Tensor:
    if node.attr("training_mode", 0) or node.wanted(1):
        node.refuse("training mode")
    x, epsilon = node.tensor(0), node.attr("epsilon", 1e-5)
    shape = [-1] + [1] * (x.ndim - 2)
    if all(node.known(index) for index in range(1, 5)):  # one product and one sum, which convolutions take in
        gamma, beta, mean, variance = (
            node.constant(index, "statistics").astype(np.float64) for index in range(1, 5)
        )
        scale = gamma / np.sqrt(variance + epsilon)
        return x * as_tensor(scale.reshape(shape)) + as_tensor((beta - mean * scale).reshape(shape))
    parts = [node.tensor(index).reshape(shape) for index in range(1, 5)]
    return (x - parts[2]) * torch.rsqrt(parts[3] + epsilon) * parts[0] + parts[1]


def _centred(x: torch.Tensor, axes: list[int], epsilon: float) -> tuple[torch.Tensor, ...]:
    """Normalised over axes, with the mean and the inverse of the deviation."""
    mean = torch.mean(x, axes, keepdim=True)
    away = x - mean
    inverse = torch.rsqrt(torch.mean(away * away, axes, keepdim=True) + epsilon)
    return away * inverse, mean, inverse


def _instance(node: Node) -> torch.Tensor:
    x = node.tensor(0)
    normal, *_ = _centred(x, list(range(2, x.ndim)), node.attr("epsilon", 1e-5))
    return _scaled(normal, node, [-1] + [1] * (x.ndim - 2))


def _scaled(x: torch.Tensor, node: Node, shape: list[int]) -> torch.Tensor:
    return x * node.tensor(1).reshape(shape) + node.tensor(2).reshape(shape)


def _layer(node: Node) -> torch.Tensor | tuple[torch.Tensor, ...]:
    x, epsilon, axis = node.tensor(0), node.attr("epsilon", 1e-5), node.axis(-1)
    normalised = list(x.shape[axis:])
    plain = list(node.shape(1)) == normalised and (not node.has(2) or list(node.shape(2)) == normalised)
    if plain and not node.wanted(1) and not node.wanted(2):
        bias = node.tensor(2) if node.has(2) else None
        return functional.layer_norm(x, normalised, node.tensor(1), bias, epsilon)
    normal, mean, inverse = _centred(x, list(range(axis, x.ndim)), epsilon)
    result = normal * node.tensor(1)
    if node.has(2):
        result = result + node.tensor(2)
    return result, mean, inverse


def _group(node: Node) -> torch.Tensor:
    x, groups = node.tensor(0), node.attr("num_groups")
    apart = x.reshape(x.shape[0], groups, -1)
    normal, *_ = _centred(apart, [2], node.attr("epsilon", 1e-5))
    if node.shape(1)[0] == x.shape[1]:  # since opset 21 one scale a channel; before that one a group
        return _scaled(normal.reshape(x.shape), node, [-1] + [1] * (x.ndim - 2))
    return _scaled(normal, node, [-1, 1]).reshape(x.shape)


def _mean_variance(node: Node) -> torch.Tensor:
    x = node.tensor(0)
    axes = [axis % x.ndim for axis in node.attr("axes", [0, 2, 3])]
    mean = torch.mean(x, axes, keepdim=True)
    variance = torch.mean(x * x, axes, keepdim=True) - mean * mean
    return (x - mean) / (torch.sqrt(variance) + 1e-9)


def _norm(node: Node) -> torch.Tensor:
    x, axis = node.tensor(0), node.axis(-1)
    if node.attr("p", 2) == 1:
        size = torch.sum(torch.abs(x), axis, keepdim=True)
    else:
        size = torch.sqrt(torch.sum(x * x, axis, keepdim=True))
    return x / (size + torch.eq(size, 0.0).to(torch.float32))  # ONNX answers 0 where all is 0


def _local_response(node: Node) -> torch.Tensor:
    x, size = node.tensor(0), node.attr("size")
    alpha, beta, bias = node.attr("alpha", 1e-4), node.attr("beta", 0.75), node.attr("bias", 1.0)
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    count = x.shape[1]
    square = x * x
    edges = [torch.zeros([x.shape[0], length, *x.shape[2:]]) for length in (before, after)]
    padded = torch.cat([part for part in (edges[0], square, edges[1]) if part.shape[1]], 1)
    total = padded[:, :count]
    for place in range(1, size):
        total = total + padded[:, place : place + count]
    return x * torch.pow(total * (alpha / size) + bias, -beta)


def _dropout(node: Node) -> torch.Tensor:
    if node.wanted(1):
        node.refuse("its mask is used")
    if node.has(2) and node.constant(2, "mode").any():
        node.refuse("training mode")
    return node.tensor(0)


OPERATORS: dict[str, Convert] = {
    "BatchNormalization": _batch, "InstanceNormalization": _instance, "LayerNormalization": _layer,
    "GroupNormalization": _group, "MeanVarianceNormalization": _mean_variance, "LpNormalization": _norm,
    "LRN": _local_response, "Dropout": _dropout,
}  # fmt: skip
