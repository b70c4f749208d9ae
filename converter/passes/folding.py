"""What of the recipe's preprocessing a graph can compute as the executor on devices would."""

from __future__ import annotations

from typing import Any

import numpy as np

from converter.errors import RecipeError
from ota_contract.preprocessing import Step
from ota_contract.preprocessing_steps import Affine, Cast, Transpose

__all__ = ["computed_type"]

_INTEGERS = (np.dtype(np.int32), np.dtype(np.int64))


def computed_type(step: Step, dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """The type a step by the converter computes in.

    The executor's casts saturate and round; those of graphs do neither, so only those are folded where
    nothing can saturate or be rounded.

    Args:
        step: To be folded into a graph.
        dtype: What it is given.
        name: Of the input, for the message.

    Raises:
        RecipeError: The step would not compute the same.
    """
    if isinstance(step, Affine):
        return np.dtype(np.float32)
    if isinstance(step, Transpose):
        return dtype
    if not isinstance(step, Cast):  # the recipe lets nothing else through
        raise RecipeError(f"input {name}: {step.operation.value} is not folded into a graph")
    wanted = np.dtype(step.datatype.dtype)
    if wanted != np.float32 and not (wanted in _INTEGERS and np.can_cast(dtype, wanted, "safe")):
        raise RecipeError(
            f"input {name}: the converter folds no cast from {dtype} to {step.datatype.value}; "
            'leave it to the "device"'
        )
    return wanted
