"""Shapes of variants whose file fixes every length."""

from __future__ import annotations

from converter.errors import RecipeError
from converter.recipe import Recipe
from ota_contract.tensors import DYNAMIC, Tensor

__all__ = ["fixed_shape"]


def fixed_shape(tensor: Tensor, recipe: Recipe, kind: str) -> tuple[int, ...]:
    """The tensor's shape for one sample.

    Args:
        tensor: An input of the recipe.
        recipe: For the message.
        kind: What the variant is, as in "a Core ML variant".

    Raises:
        RecipeError: A dimension other than the batch has no length.
    """
    shape = tensor.shape
    if DYNAMIC in shape[1:]:
        raise RecipeError(
            f"{recipe.shown}: {kind} has fixed shapes, and {tensor.name} is {list(shape)}; "
            "give every dimension but the first a length"
        )
    return (1, *shape[1:]) if shape[:1] == (DYNAMIC,) else shape
