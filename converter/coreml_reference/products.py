"""Matrix products, and attention, which is two of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from converter.coreml_reference.activations import softmax
from converter.coreml_reference.arguments import Arguments, Compute
from converter.coreml_reference.datatypes import Array

__all__ = ["OPERATIONS"]


def _matmul(a: Arguments) -> Array:
    x, y = a["x"], a["y"]
    if a.flag("transpose_x") and x.ndim > 1:
        x = x.swapaxes(-1, -2)
    if a.flag("transpose_y") and y.ndim > 1:
        y = y.swapaxes(-1, -2)
    return np.asarray(np.matmul(x, y))


def _linear(a: Arguments) -> Array:
    result = a["x"] @ a["weight"].T
    bias = a.optional("bias")
    return result if bias is None else result + bias


def _einsum(a: Arguments) -> Array:
    result: Array = np.einsum(a.text("equation"), *a.many("values"))
    return result


def _attention(a: Arguments) -> Array:
    query, key, value = a["query"], a["key"], a["value"]
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    mask = a.optional("attn_mask")
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype.kind == "b" else scores + mask
    result: Array = softmax(scores, -1) @ value
    return result


OPERATIONS: Mapping[str, Compute] = {
    "einsum": _einsum,
    "linear": _linear,
    "matmul": _matmul,
    "scaled_dot_product_attention": _attention,
}
