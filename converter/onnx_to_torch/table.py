"""Which function computes which ONNX operator; `docs/onnx-operators.md` says how each was verified."""

from __future__ import annotations

from collections.abc import Mapping

from converter.onnx_to_torch import (
    activations,
    elementwise,
    indexing,
    normalization,
    products,
    quantization,
    recurrent,
    reductions,
    resizing,
    shaping,
    windows,
)
from converter.onnx_to_torch.node import Convert

__all__ = ["GROUPS", "OPERATORS"]

GROUPS: Mapping[str, Mapping[str, Convert]] = {
    "Element by element": elementwise.OPERATORS,
    "Activations": activations.OPERATORS,
    "Convolution and pooling": windows.OPERATORS,
    "Normalisation": normalization.OPERATORS,
    "Matrix products": products.OPERATORS,
    "Reductions and orders": reductions.OPERATORS,
    "Shapes": shaping.OPERATORS,
    "Slices, gathers, scatters": indexing.OPERATORS,
    "Resizing": resizing.OPERATORS,
    "Recurrent": recurrent.OPERATORS,
    "Quantized": quantization.OPERATORS,
}

OPERATORS: Mapping[str, Convert] = {
    name: convert for group in GROUPS.values() for name, convert in group.items()
}
