"""Runs the source model on the evaluation and golden sets: what every variant is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from converter.datasets import Dataset, load_datasets
from converter.errors import PassError, Reason
from converter.jobs import Job
from converter.passes.answers import EVALUATION, GOLDEN, write_answers
from converter.passes.keras_model import open_model
from converter.passes.prepared import prepared_for_source
from converter.recipe import Recipe
from edge_runtime.port import AnyArray

__all__ = ["run"]

_BATCH = 64


def run(job: Job) -> Mapping[str, Any]:
    """Write the source's outputs on both sets; the fact is how many evaluation samples it gets right."""
    recipe = job.recipe()
    model = open_model(job, recipe)
    sets = load_datasets(recipe)
    outputs = _answers(job, recipe, model, sets.evaluation)
    write_answers(job.out, EVALUATION, outputs)
    write_answers(job.out, GOLDEN, _answers(job, recipe, model, sets.golden))
    scores = outputs[recipe.outputs[0].name]
    return {"correct": int((scores.argmax(axis=-1) == sets.evaluation.labels).sum())}


def _answers(job: Job, recipe: Recipe, model: Any, data: Dataset) -> dict[str, AnyArray]:  # noqa: ANN401
    inputs = prepared_for_source(recipe, data)
    rows: list[list[AnyArray]] = [[] for _ in recipe.outputs]
    for start in range(0, len(data), _BATCH):
        fed = [inputs[plan.tensor.name][start : start + _BATCH] for plan in recipe.inputs]
        results = model(fed if len(fed) > 1 else fed[0], training=False)
        results = results if isinstance(results, (list, tuple)) else [results]
        for row, result in zip(rows, results, strict=True):
            row.append(np.asarray(result, dtype=np.float32))
    named = {tensor.name: np.concatenate(row) for tensor, row in zip(recipe.outputs, rows, strict=True)}
    for name, array in named.items():
        if not np.isfinite(array).all():
            message = f"the source model answers NaN or infinity in {name} on the {data.name} set"
            raise PassError(job.name, Reason.NOT_FINITE, message)
    return named
