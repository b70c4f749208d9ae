"""Activation functions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from converter.onnx_to_torch.node import Convert, Node

__all__ = ["OPERATORS"]

_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def _simple(make: Callable[[torch.Tensor], torch.Tensor]) -> Convert:
    def convert(node: Node) -> torch.Tensor:
        return make(node.tensor(0))

    return convert


def _exponential(x: torch.Tensor, alpha: float, steepness: float = 1.0) -> torch.Tensor:
    """The exponential linear unit; exp is taken of nothing positive, which might overflow."""
    below = torch.clamp(x, max=0.0)
    below = below if steepness == 1 else below * steepness
    return torch.relu(x) + (torch.exp(below) - 1.0) * alpha


def _elu(node: Node) -> torch.Tensor:
    return _exponential(node.tensor(0), node.attr("alpha", 1.0))


def _selu(node: Node) -> torch.Tensor:
    alpha, gamma = node.attr("alpha", _SELU_ALPHA), node.attr("gamma", _SELU_GAMMA)
    made: torch.Tensor = _exponential(node.tensor(0), alpha) * gamma
    return made


def _celu(node: Node) -> torch.Tensor:
    x, alpha = node.tensor(0), node.attr("alpha", 1.0)
    return _exponential(x, alpha, 1 / alpha)


def _leaky(node: Node) -> torch.Tensor:
    return functional.leaky_relu(node.tensor(0), node.attr("alpha", 0.01))


def _prelu(node: Node) -> torch.Tensor:
    x = node.tensor(0)
    return torch.relu(x) + torch.clamp(x, max=0.0) * node.tensor(1)


def _hard_sigmoid(node: Node) -> torch.Tensor:
    alpha, beta = node.attr("alpha", 0.2), node.attr("beta", 0.5)
    return torch.clamp(node.tensor(0) * alpha + beta, 0.0, 1.0)


def _softplus(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x) + torch.log1p(torch.exp(-torch.abs(x)))


def _mish(x: torch.Tensor) -> torch.Tensor:
    return x * torch.tanh(_softplus(x))


def _gelu(node: Node) -> torch.Tensor:
    kind = node.attr("approximate", "none")
    if kind not in ("none", "tanh"):
        node.refuse(f"approximate {kind}")
    return functional.gelu(node.tensor(0), approximate=kind)


def _thresholded(node: Node) -> torch.Tensor:
    x = node.tensor(0)
    return x * torch.gt(x, node.attr("alpha", 1.0)).to(torch.float32)


def _shrink(node: Node) -> torch.Tensor:
    x, bias, bound = node.tensor(0), node.attr("bias", 0.0), node.attr("lambd", 0.5)
    above, below = torch.gt(x, bound).to(x.dtype), torch.lt(x, -bound).to(x.dtype)
    made: torch.Tensor = above * (x - bias) + below * (x + bias)
    return made


def _softmax(node: Node) -> torch.Tensor:
    return torch.softmax(node.tensor(0), node.axis(-1))


def _log_softmax(node: Node) -> torch.Tensor:
    return torch.log_softmax(node.tensor(0), node.axis(-1))


def _hardmax(node: Node) -> torch.Tensor:
    x, axis = node.tensor(0), node.axis(-1)
    best = torch.argmax(x, dim=axis, keepdim=True).to(torch.int32)
    shape = [-1 if place == axis else 1 for place in range(x.ndim)]
    places = torch.arange(x.shape[axis], dtype=torch.int32).reshape(shape)
    return torch.eq(best, places).to(torch.float32)


OPERATORS: dict[str, Convert] = {
    "Relu": _simple(torch.relu), "Sigmoid": _simple(torch.sigmoid), "Tanh": _simple(torch.tanh),
    "Softplus": _simple(_softplus), "Softsign": _simple(lambda x: x / (torch.abs(x) + 1.0)), "Elu": _elu,
    "LeakyRelu": _leaky, "Selu": _selu, "Celu": _celu, "PRelu": _prelu, "HardSigmoid": _hard_sigmoid,
    "HardSwish": _simple(functional.hardswish), "Mish": _simple(_mish), "Gelu": _gelu,
    "ThresholdedRelu": _thresholded, "Shrink": _shrink, "Softmax": _softmax, "LogSoftmax": _log_softmax,
    "Hardmax": _hardmax,
}  # fmt: skip
