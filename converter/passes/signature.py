"""Matches the inputs and outputs of a source model with the recipe's.

By name where the recipe uses the model's names (it may then leave outputs out), else by position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from converter.errors import SourceError
from converter.recipe import InputPlan, Recipe
from ota_contract.tensors import DYNAMIC, Tensor

__all__ = ["Found", "Matched", "MatchedInput", "match"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An input or output of the model."""

    name: str
    dtype: np.dtype[Any] | None
    """None where it is no array; then `flaw` says what it is."""
    dims: tuple[int, ...] | None
    """Lengths, −1 where any; None where the rank is unknown."""
    flaw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedInput:
    """An input of the recipe, and the model's."""

    plan: InputPlan
    inner: str
    dtype: np.dtype[Any]
    """What the model takes."""
    permutation: tuple[int, ...]
    """Axes of the recipe's tensor in the model's order; empty where they are the same."""
    fixed_batch: bool
    """Whether the model takes one batch size only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """Every input and output of the recipe with the model's name for it."""

    inputs: tuple[MatchedInput, ...]
    outputs: tuple[tuple[Tensor, str], ...]


def match(recipe: Recipe, inputs: Sequence[Found], outputs: Sequence[Found]) -> Matched:
    """Find the model's tensors for the recipe's.

    Raises:
        SourceError: They differ in number, type or shape.
    """
    plans = {plan.tensor.name: plan for plan in recipe.inputs}
    pairs = _paired("input", list(plans), inputs, recipe, all_of_them=True)
    fed = tuple(_input(plans[name], item, recipe) for name, item in pairs)
    tensors = {tensor.name: tensor for tensor in recipe.outputs}
    answers = _paired("output", list(tensors), outputs, recipe, all_of_them=False)
    for name, item in answers:
        _check_output(tensors[name], item, recipe)
    return Matched(inputs=fed, outputs=tuple((tensors[name], item.name) for name, item in answers))


def _paired(
    what: str, names: Sequence[str], found: Sequence[Found], recipe: Recipe, *, all_of_them: bool
) -> list[tuple[str, Found]]:
    by_name = {item.name: item for item in found}
    if all(name in by_name for name in names) and (len(names) == len(found) or not all_of_them):
        return [(name, by_name[name]) for name in names]
    if len(names) != len(found):
        listed = ", ".join(by_name) or "none"
        raise SourceError(
            f"the model has {len(found)} {what}s ({listed[:200]}), {recipe.shown} names {len(names)}"
        )
    for position, name in enumerate(names):
        if name in by_name and found[position].name != name:
            raise SourceError(
                f"{recipe.shown}: {what} {name} is in another place in the model, and not all {what}s "
                f"have the model's names ({', '.join(by_name)})"[:400]
            )
    return list(zip(names, found, strict=True))


def _dtype(item: Found, what: str) -> np.dtype[Any]:
    if item.dtype is None:
        raise SourceError(f"the model's {what} {item.name} {item.flaw}")
    return item.dtype


def _input(plan: InputPlan, item: Found, recipe: Recipe) -> MatchedInput:
    dtype = _dtype(item, "input")
    permutation = _permutation(plan.fed, recipe)
    wanted = plan.fed.shape
    in_order = tuple(wanted[axis] for axis in permutation) if permutation else wanted
    dims = item.dims or in_order
    if not _fits(in_order, dims):
        advice = ""
        if len(dims) > 2 and not permutation and _fits(_channels_first(wanted), dims):  # noqa: PLR2004 - images
            advice = '; if it is channels first, write layout = "NCHW" into [source] and "NHWC" to the input'
        raise SourceError(
            f"the model's input {item.name} has shape {list(dims)}, {recipe.shown} says {plan.tensor.name} "
            f"has {list(in_order)}{advice}"
        )
    if not plan.converter_steps and dtype != plan.tensor.datatype.dtype:
        raise SourceError(
            f"the model takes {item.name} as {dtype}, {recipe.shown} says {plan.tensor.datatype.value}; "
            "add a preprocessing step by the converter"
        )
    _check_free(in_order, dims, item, recipe)
    return MatchedInput(
        plan=plan,
        inner=item.name,
        dtype=dtype,
        permutation=permutation,
        fixed_batch=bool(dims) and dims[0] != DYNAMIC,
    )


def _check_free(wanted: Sequence[int], dims: Sequence[int], item: Found, recipe: Recipe) -> None:
    for axis, (asked, own) in enumerate(zip(wanted, dims, strict=True)):
        if asked == DYNAMIC and own != DYNAMIC:
            raise SourceError(
                f"{recipe.shown} lets dimension {axis} of {item.name} be any, the model fixes it at {own}; "
                f"write {own}, or export the model with a dynamic one"
            )
    if dims and dims[0] not in (DYNAMIC, 1):
        raise SourceError(
            f"the model takes {item.name} in batches of {dims[0]}; export it for a batch of 1 or any"
        )


def _permutation(tensor: Tensor, recipe: Recipe) -> tuple[int, ...]:
    layout = recipe.source_layout
    if not layout or tensor.layout == layout or sorted(tensor.layout) != sorted(layout):
        return ()
    return tuple(tensor.layout.index(letter) for letter in layout)


def _channels_first(shape: Sequence[int]) -> tuple[int, ...]:
    return (shape[0], shape[-1], *shape[1:-1]) if shape else ()


def _fits(wanted: Sequence[int], dims: Sequence[int]) -> bool:
    return len(wanted) == len(dims) and all(
        DYNAMIC in (asked, own) or asked == own for asked, own in zip(wanted, dims, strict=True)
    )


def _check_output(tensor: Tensor, item: Found, recipe: Recipe) -> None:
    if _dtype(item, "output") != np.float32:
        raise SourceError(
            f"the model answers {item.name} as {_dtype(item, 'output')}; outputs are FP32 in every variant"
        )
    if item.dims is not None and not _fits(tensor.shape, item.dims):
        raise SourceError(
            f"the model's output {item.name} has shape {list(item.dims)}, {recipe.shown} says {tensor.name} "
            f"has {list(tensor.shape)}"
        )
