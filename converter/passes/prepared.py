"""The data sets as the model's inputs, through the executor that devices use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from converter.datasets import Dataset
from converter.recipe import InputPlan, Recipe
from edge_runtime.port import AnyArray
from edge_runtime.preprocessing import prepare
from ota_contract.preprocessing import InputSpec
from ota_contract.tensors import DYNAMIC

__all__ = ["prepared", "prepared_for_source", "samples"]


def prepared(recipe: Recipe, data: Dataset) -> dict[str, AnyArray]:
    """What a variant takes: the device's steps done."""
    return prepare([_for_many(plan.spec) for plan in recipe.inputs], data.raw)


def prepared_for_source(recipe: Recipe, data: Dataset) -> dict[str, AnyArray]:
    """What the source model takes: the converter's steps done too, by the executor and not the graph."""
    return prepare(list(map(_for_source, recipe.inputs)), data.raw)


def samples(recipe: Recipe, data: Dataset) -> Iterator[dict[str, AnyArray]]:
    """The prepared samples one by one, as batches of one."""
    arrays = prepared(recipe, data)
    for row in range(len(data)):
        yield {name: array[row : row + 1] for name, array in arrays.items()}


def _for_many(spec: InputSpec) -> InputSpec:
    """The same for a whole set at once, also where the model takes one sample at a time."""
    return replace(spec, raw_shape=(DYNAMIC, *spec.raw_shape[1:]))


def _for_source(plan: InputPlan) -> InputSpec:
    device = tuple(step for step in plan.spec.steps if not step.folded)
    converter = tuple(replace(step, folded=False) for step in plan.converter_steps)
    return replace(_for_many(plan.spec), steps=device + converter)
