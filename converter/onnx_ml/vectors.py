"""Support vector regression: a kernel of every sample with every support vector."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from converter.onnx_ml.emitting import Rewrite, Use, transformed

__all__ = ["OPERATORS"]


def _regressor(use: Use) -> list[str]:
    if use.attr("one_class", 0):
        use.refuse("one_class")
    count = use.attr("n_supports", 0)
    coefficients, offset = use.floats("coefficients"), use.floats("rho")
    values = use.floating()
    if not count:
        scores = use.add("MatMul", values, use.constant(coefficients.reshape(-1, 1)))
    else:
        vectors = use.floats("support_vectors").reshape(count, -1)
        kernel = _kernel(use, values, vectors)
        scores = use.add("MatMul", kernel, use.constant(coefficients.reshape(count, 1)))
    return [transformed(use, use.add("Add", scores, use.constant(offset[:1])))]


def _kernel(use: Use, values: str, vectors: NDArray[np.float32]) -> str:
    """Of shape [batch, support vectors]."""
    gamma, coefficient, degree = (float(item) for item in (*use.floats("kernel_params"), 0.0, 0.0, 3.0)[:3])
    kind = use.attr("kernel_type", "LINEAR")
    if kind == "RBF":
        # Differences before squares: |x|² − 2xv + |v|² cancels, and half floats have nothing left then.
        apart = use.add("Unsqueeze", values, use.constant(np.array([1], np.int64)))
        apart = use.add("Sub", apart, use.constant(vectors))
        distance = use.reduced("ReduceSum", use.add("Mul", apart, apart), -1, keepdims=False)
        return use.add("Exp", use.add("Mul", distance, use.constant(np.float32(-gamma))))
    products = use.add("MatMul", values, use.constant(np.ascontiguousarray(vectors.T)))
    if kind == "LINEAR":
        return products
    scaled = use.add("Mul", products, use.constant(np.float32(gamma)))
    shifted = use.add("Add", scaled, use.constant(np.float32(coefficient)))
    if kind == "POLY":
        return use.add("Pow", shifted, use.constant(np.float32(degree)))
    if kind != "SIGMOID":
        use.refuse(f"kernel_type {kind}")
    return use.add("Tanh", shifted)


OPERATORS: Mapping[str, Rewrite] = {"SVMRegressor": _regressor}
