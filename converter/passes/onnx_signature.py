"""The inputs and outputs of an ONNX graph, and which of the recipe's they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from converter.passes.signature import Found, Matched, match
from converter.recipe import Recipe
from ota_contract.tensors import DYNAMIC

__all__ = ["dims_of", "matched"]


def matched(model: Any, recipe: Recipe) -> Matched:  # noqa: ANN401 - onnx publishes no types
    """Find the graph's tensors for the recipe's.

    Raises:
        SourceError: They differ in number, type or shape.
    """
    weights = {item.name for item in model.graph.initializer}
    inputs = [_found(item) for item in model.graph.input if item.name not in weights]
    return match(recipe, inputs, [_found(item) for item in model.graph.output])


def dims_of(item: Any) -> tuple[int, ...] | None:  # noqa: ANN401
    """Lengths of a graph's input or output, −1 where any; None where the rank is unknown."""
    tensor = item.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(int(dim.dim_value) if dim.HasField("dim_value") else DYNAMIC for dim in tensor.shape.dim)


def _found(item: Any) -> Found:  # noqa: ANN401
    name = str(item.name)
    if item.type.WhichOneof("value") != "tensor_type":
        return Found(name=name, dtype=None, dims=None, flaw="is no tensor, but a sequence, map or optional")
    try:
        dtype: np.dtype[Any] = onnx.helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type)
    except (KeyError, TypeError, ValueError):
        return Found(name=name, dtype=None, dims=None, flaw="is of an unknown type")
    return Found(name=name, dtype=dtype, dims=dims_of(item))
