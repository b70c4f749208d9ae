"""Every operation the reference evaluator knows, by name; `docs/coreml-reference.md` lists them."""

from __future__ import annotations

from collections.abc import Mapping

from converter.coreml_reference import (
    activations,
    compression,
    convolution,
    elementwise,
    indexing,
    normalization,
    pooling,
    products,
    recurrent,
    reductions,
    resizing,
    shaping,
)
from converter.coreml_reference.arguments import Compute

__all__ = ["CONTROL", "GROUPS", "OPERATIONS"]

GROUPS: Mapping[str, Mapping[str, Compute]] = {
    "Element by element": elementwise.OPERATIONS,
    "Activations": activations.OPERATIONS,
    "Convolution": convolution.OPERATIONS,
    "Pooling": pooling.OPERATIONS,
    "Normalisation": normalization.OPERATIONS,
    "Matrix products and attention": products.OPERATIONS,
    "Reductions and orders": reductions.OPERATIONS,
    "Shapes": shaping.OPERATIONS,
    "Slices, gathers, scatters": indexing.OPERATIONS,
    "Resizing and sampling": resizing.OPERATIONS,
    "Recurrent": recurrent.OPERATIONS,
    "Compressed weights and quantization": compression.OPERATIONS,
}

OPERATIONS: Mapping[str, Compute] = {
    name: compute for group in GROUPS.values() for name, compute in group.items()
}

CONTROL = ("cond", "const", "while_loop")
"""What the evaluator itself does."""
