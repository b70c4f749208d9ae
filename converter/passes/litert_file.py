"""PyTorch module → TFLite file, by litert_torch, which needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import litert_torch
import torch

from converter.errors import OperatorRefusedError

__all__ = ["tflite_of"]

_LINE = 300
_ERROR = "error: "


def tflite_of(module: torch.nn.Module, example: Sequence[torch.Tensor]) -> bytes:
    """The file of a module, with the shapes and types of its example inputs, in their order.

    Raises:
        OperatorRefusedError: litert_torch cannot lower what the module does.
    """
    try:
        # Else inputs of 64 bits would be of 32 in the file, and what the recipe's datatype says untrue.
        made = litert_torch.convert(module, tuple(example), enable_x64=True)
        content: bytes = made.model_content()
    except Exception as error:  # litert_torch raises what its parts do
        raise OperatorRefusedError(f"litert_torch cannot convert the program: {_why(error)}") from error
    return content


def _why(error: Exception) -> str:
    """The first line that says anything; MLIR names a place in our source before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    told = next((line for line in lines if _ERROR in line), lines[0])
    return told.rpartition(_ERROR)[2][:_LINE]
