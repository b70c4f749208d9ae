"""The data sets as the model's inputs, through the executor that devices use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from converter.datasets import Dataset
from converter.errors import DataError
from converter.recipe import Recipe
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.port import AnyArray
from edge_runtime.preprocessing import prepare
from ota_contract.preprocessing import InputSpec, Step
from ota_contract.tensors import DYNAMIC

__all__ = ["prepared", "prepared_for_source", "samples"]


def prepared(recipe: Recipe, data: Dataset) -> dict[str, AnyArray]:
    """What a variant takes: the device's steps done."""
    return _prepare(recipe, map(_for_many, recipe.preprocessing), data)


def prepared_for_source(recipe: Recipe, data: Dataset) -> dict[str, AnyArray]:
    """What the source model takes: the converter's steps done too, by the executor and not the graph."""
    converters = {plan.tensor.name: plan.converter_steps for plan in recipe.inputs}
    return _prepare(
        recipe, (_for_source(spec, converters.get(spec.input, ())) for spec in recipe.preprocessing), data
    )


def samples(recipe: Recipe, data: Dataset) -> Iterator[dict[str, AnyArray]]:
    """The prepared samples one by one, as batches of one."""
    arrays = prepared(recipe, data)
    for row in range(len(data)):
        yield {name: array[row : row + 1] for name, array in arrays.items()}


def _for_many(spec: InputSpec) -> InputSpec:
    """The same for a whole set at once, also where the model takes one sample at a time."""
    return replace(spec, raw_shape=(DYNAMIC, *spec.raw_shape[1:]))


def _for_source(spec: InputSpec, converter_steps: Iterable[Step]) -> InputSpec:
    converter = tuple(replace(step, folded=False) for step in converter_steps)
    return replace(_for_many(spec), steps=spec.active_steps + converter)


def _prepare(recipe: Recipe, specs: Iterable[InputSpec], data: Dataset) -> dict[str, AnyArray]:
    vocabularies = {digest: path.read_bytes() for digest, path in recipe.vocabularies.items()}
    try:
        return prepare(specs, data.raw, vocabularies)
    except EdgeRuntimeError as error:
        raise DataError(f"{data.name} set: {error}") from error
