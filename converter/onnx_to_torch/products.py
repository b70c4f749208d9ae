"""Matrix products: Gemm, MatMul and Einsum."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from converter.onnx_to_torch.node import Convert, Node, as_tensor

__all__ = ["OPERATORS"]

_MATRIX = 2


def _gemm(node: Node) -> torch.Tensor:
    left, right = node.tensor(0), node.tensor(1)
    alpha, beta = node.attr("alpha", 1.0), node.attr("beta", 1.0)
    left = left.T if node.attr("transA", 0) else left
    across = bool(node.attr("transB", 0))
    if node.known(1) and (not node.has(2) or (node.known(2) and _is_vector(node.shape(2)))):
        # FULLY_CONNECTED takes weights and bias; alpha and beta go into them.
        weight = right if across else right.T
        weight = weight if alpha == 1 else weight * alpha
        return functional.linear(left, weight, _bias(node, beta, weight.shape[0]))
    product = torch.matmul(left, right.T if across else right)
    product = product if alpha == 1 else product * alpha
    if not node.has(2):
        return product
    bias = node.tensor(2)
    return product + (bias if beta == 1 else bias * beta)


def _bias(node: Node, beta: float, length: int) -> torch.Tensor | None:
    if not node.has(2):
        return None
    bias = node.constant(2, "bias").astype(np.float32).reshape(-1) * np.float32(beta)
    return as_tensor(np.broadcast_to(bias, (length,)))


def _is_vector(shape: tuple[int, ...]) -> bool:
    return len(shape) <= 1 or (len(shape) == _MATRIX and shape[0] == 1)


def _matmul(node: Node) -> torch.Tensor:
    left, right = node.tensor(0), node.tensor(1)
    if node.known(1) and right.ndim == _MATRIX and left.ndim > 1:
        return functional.linear(left, right.T)
    return torch.matmul(left, right)


def _einsum(node: Node) -> torch.Tensor:
    return torch.einsum(node.attr("equation").replace(" ", ""), *map(node.tensor, range(len(node))))


OPERATORS: dict[str, Convert] = {"Gemm": _gemm, "MatMul": _matmul, "Einsum": _einsum}
