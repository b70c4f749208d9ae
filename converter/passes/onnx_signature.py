"""Matches the inputs and outputs of an ONNX graph with the recipe's.

By name where the recipe uses the graph's names (it may then leave outputs out), else by position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from converter.errors import SourceError
from converter.recipe import InputPlan, Recipe
from ota_contract.tensors import DYNAMIC, Tensor

__all__ = ["Matched", "MatchedInput", "dims_of", "matched"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedInput:
    """An input of the recipe, and the graph's."""

    plan: InputPlan
    inner: str
    dtype: np.dtype[Any]
    """What the graph takes."""
    permutation: tuple[int, ...]
    """Axes of the recipe's tensor in the graph's order; empty where they are the same."""
    fixed_batch: bool
    """Whether the graph takes one batch size only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """Every input and output of the recipe with the graph's name for it."""

    inputs: tuple[MatchedInput, ...]
    outputs: tuple[tuple[Tensor, str], ...]


def matched(model: Any, recipe: Recipe) -> Matched:  # noqa: ANN401 - onnx publishes no types
    """Find the graph's tensors for the recipe's.

    Raises:
        SourceError: They differ in number, type or shape.
    """
    weights = {item.name for item in model.graph.initializer}
    fed = [item for item in model.graph.input if item.name not in weights]
    plans = {plan.tensor.name: plan for plan in recipe.inputs}
    pairs = _paired("input", list(plans), fed, recipe, all_of_them=True)
    inputs = tuple(_input(plans[name], item, recipe) for name, item in pairs)
    tensors = {tensor.name: tensor for tensor in recipe.outputs}
    answers = _paired("output", list(tensors), list(model.graph.output), recipe, all_of_them=False)
    for name, item in answers:
        _check_output(tensors[name], item, recipe)
    return Matched(inputs=inputs, outputs=tuple((tensors[name], str(item.name)) for name, item in answers))


def dims_of(item: Any) -> tuple[int, ...] | None:  # noqa: ANN401
    """Lengths of a graph's input or output, −1 where any; None where the rank is unknown."""
    tensor = item.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(int(dim.dim_value) if dim.HasField("dim_value") else DYNAMIC for dim in tensor.shape.dim)


def _paired(
    what: str, names: Sequence[str], found: Sequence[Any], recipe: Recipe, *, all_of_them: bool
) -> list[tuple[str, Any]]:
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


def _dtype(item: Any, what: str) -> np.dtype[Any]:  # noqa: ANN401
    if item.type.WhichOneof("value") != "tensor_type":
        raise SourceError(f"the model's {what} {item.name} is no tensor, but a sequence, map or optional")
    try:
        dtype: np.dtype[Any] = onnx.helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type)
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"the model's {what} {item.name} is of an unknown type") from error
    return dtype


def _input(plan: InputPlan, item: Any, recipe: Recipe) -> MatchedInput:  # noqa: ANN401
    dtype = _dtype(item, "input")
    permutation = _permutation(plan.tensor, recipe)
    wanted = plan.tensor.shape
    in_order = tuple(wanted[axis] for axis in permutation) if permutation else wanted
    dims = dims_of(item) or in_order
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
        inner=str(item.name),
        dtype=dtype,
        permutation=permutation,
        fixed_batch=bool(dims) and dims[0] != DYNAMIC,
    )


def _check_free(wanted: Sequence[int], dims: Sequence[int], item: Any, recipe: Recipe) -> None:  # noqa: ANN401
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


def _check_output(tensor: Tensor, item: Any, recipe: Recipe) -> None:  # noqa: ANN401
    if _dtype(item, "output") != np.float32:
        raise SourceError(
            f"the model answers {item.name} as {_dtype(item, 'output')}; outputs are FP32 in every variant"
        )
    dims = dims_of(item)
    if dims is not None and not _fits(tensor.shape, dims):
        raise SourceError(
            f"the model's output {item.name} has shape {list(dims)}, {recipe.shown} says {tensor.name} "
            f"has {list(tensor.shape)}"
        )
