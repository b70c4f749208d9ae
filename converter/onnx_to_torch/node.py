"""An ONNX operator as the functions of the table see it: constants, and tensors.

Floats are computed in 32 bits, and whole numbers in 32 bits too, where PyTorch lets them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from onnx import TensorProto

from converter.onnx_importing import node as shared
from converter.onnx_importing.node import FLOATS, Value, dims, is_known

__all__ = ["Convert", "Node", "Value", "as_tensor", "computed_as", "dims", "is_bool", "is_float"]

_INT32 = np.iinfo(np.int32)


class Node(shared.Node):
    """One operator with what it reads."""

    target = "TFLite"

    def __init__(self, weights: Mapping[int, torch.Tensor], **rest: Any) -> None:  # noqa: ANN401
        """Hold what the walk found; `weights` are tensors of the graph's own arrays, by the arrays' ids."""
        super().__init__(**rest)
        self._weights = weights

    def tensor(self, index: int) -> torch.Tensor:
        """An input as an operation takes it."""
        value = self.value(index)
        if not is_known(value):
            made: torch.Tensor = value
            return made
        own = self._weights.get(id(value))
        return as_tensor(value) if own is None else own


Convert = Callable[[Node], "Value | Sequence[Value]"]
"""Computes an operator's outputs."""


def as_tensor(value: Any) -> torch.Tensor:  # noqa: ANN401 - an array, or a value of the framework
    """An array as a tensor of a type that is computed in.

    Raises:
        OverflowError: An integer beyond 32 bits.
    """
    if not is_known(value):
        made: torch.Tensor = value
        return made
    array = np.asarray(value)
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    elif array.dtype.kind in "iu":
        if array.size and (array.min() < _INT32.min or array.max() > _INT32.max):
            raise OverflowError("a constant beyond 32 bits")
        array = array.astype(np.int32, copy=False)
    elif array.dtype.kind != "b":
        raise OverflowError(f"a constant of type {array.dtype}")
    return torch.from_numpy(np.array(array))  # a copy: weights read from a file may not be written to


def computed_as(elem_type: int) -> torch.dtype:
    """What values of a type of ONNX are computed in."""
    if elem_type in FLOATS:
        return torch.float32
    return torch.bool if elem_type == TensorProto.BOOL else torch.int32


def is_float(value: Value) -> bool:
    """Whether it holds floats."""
    if is_known(value):
        return bool(np.asarray(value).dtype.kind == "f")
    return bool(value.dtype.is_floating_point)


def is_bool(value: Value) -> bool:
    """Whether it holds truth values."""
    if is_known(value):
        return bool(np.asarray(value).dtype.kind == "b")
    return bool(value.dtype == torch.bool)
