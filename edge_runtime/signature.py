"""Checks inputs before, and outputs after, an inference against the release's signature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from edge_runtime.errors import InferenceError, InputError
from edge_runtime.port import AnyArray
from ota_contract.tensors import Tensor

__all__ = ["check_inputs", "check_outputs"]


def check_inputs(signature: Iterable[Tensor], inputs: Mapping[str, AnyArray]) -> None:
    """Refuse inputs the model was not made for.

    Raises:
        InputError: Naming the input, what was expected and what came.
    """
    expected = {tensor.name: tensor for tensor in signature}
    if inputs.keys() != expected.keys():
        raise InputError(f"expected inputs {sorted(expected)}, got {sorted(inputs)}")
    for name, tensor in expected.items():
        array = inputs[name]
        if not isinstance(array, np.ndarray):
            raise InputError(f"input {name}: expected a numpy array, got {type(array).__name__}")
        if array.dtype != tensor.datatype.dtype or not tensor.admits(array.shape):
            raise InputError(
                f"input {name}: expected {tensor.datatype.value} of shape {list(tensor.shape)}, "
                f"got {array.dtype} of shape {list(array.shape)}"
            )


def check_outputs(signature: Iterable[Tensor], outputs: Mapping[str, AnyArray]) -> None:
    """Refuse answers that cannot be right: a caller must never act on NaN.

    Raises:
        InferenceError: An output is missing, of the wrong shape, or holds NaN or infinity.
    """
    for tensor in signature:
        array = outputs.get(tensor.name)
        if array is None:
            raise InferenceError(f"the model gave no output {tensor.name}")
        if not tensor.admits(array.shape):
            raise InferenceError(
                f"output {tensor.name}: expected shape {list(tensor.shape)}, got {list(array.shape)}"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InferenceError(f"output {tensor.name} holds NaN or infinity")
