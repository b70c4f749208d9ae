"""Runs the source model on the evaluation and golden sets: what every variant is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from converter.datasets import Dataset, load_datasets
from converter.errors import PassError, Reason
from converter.jobs import Job
from converter.passes.answers import EVALUATION, GOLDEN, write_answers
from converter.passes.prepared import prepared_for_source
from converter.passes.telling import counted
from converter.recipe import Framework, Recipe
from edge_runtime.port import AnyArray

__all__ = ["run"]

_BATCH = 64
_Ask = Callable[[Mapping[str, AnyArray]], list[AnyArray]]
"""A source, open: inputs by the recipe's names to outputs in the recipe's order."""


def run(job: Job) -> Mapping[str, Any]:
    """Write the source's outputs on both sets; the fact is how many evaluation samples it answered."""
    recipe = job.recipe()
    ask, batch = _opened(job, recipe)
    sets = load_datasets(recipe)
    write_answers(job.out, EVALUATION, _answers(job, recipe, ask, sets.evaluation, batch))
    write_answers(job.out, GOLDEN, _answers(job, recipe, ask, sets.golden, batch))
    return {"n": len(sets.evaluation)}


def _opened(job: Job, recipe: Recipe) -> tuple[_Ask, int]:
    """The source, and how many samples it may be asked about at once."""
    match recipe.framework:
        case Framework.KERAS | Framework.SAVEDMODEL:
            from converter.passes.tensorflow_source import open_source  # noqa: PLC0415 - takes TensorFlow

            model = open_source(job, recipe)

            def ask(inputs: Mapping[str, AnyArray]) -> list[AnyArray]:
                fed = [inputs[plan.tensor.name] for plan in recipe.inputs]
                results = model(fed if len(fed) > 1 else fed[0], training=False)
                return list(results) if isinstance(results, (list, tuple)) else [results]

            return ask, 1 if getattr(model, "one_by_one", False) else _BATCH
        case Framework.ONNX:
            from converter.passes.onnx_reference import OnnxReference  # noqa: PLC0415 - takes onnxruntime

            source = OnnxReference(job, recipe)
            return source, 1 if source.one_by_one else _BATCH
        case Framework.TORCH:
            from converter.passes.torch_source import TorchReference  # noqa: PLC0415 - takes PyTorch

            program = TorchReference(job, recipe)
            return program, min(program.max_batch or _BATCH, _BATCH)
        case Framework.SKLEARN:
            from converter.passes.sklearn_model import answers, open_sklearn  # noqa: PLC0415

            estimator, name = open_sklearn(recipe), recipe.inputs[0].tensor.name
            return lambda inputs: [answers(estimator, inputs[name].astype(np.float32))], _BATCH


def _answers(job: Job, recipe: Recipe, ask: _Ask, data: Dataset, batch: int) -> dict[str, AnyArray]:
    inputs = prepared_for_source(recipe, data)
    rows: list[list[AnyArray]] = [[] for _ in recipe.outputs]
    starts = range(0, len(data), batch)
    for start in counted(job, starts, total=len(starts), what=f"batches of the {data.name} set"):
        fed = {plan.tensor.name: inputs[plan.tensor.name][start : start + batch] for plan in recipe.inputs}
        for row, result in zip(rows, ask(fed), strict=True):
            row.append(np.asarray(result, dtype=np.float32))
    named = {tensor.name: np.concatenate(row) for tensor, row in zip(recipe.outputs, rows, strict=True)}
    for name, array in named.items():
        if not np.isfinite(array).all():
            message = f"the source model answers NaN or infinity in {name} on the {data.name} set"
            raise PassError(job.name, Reason.NOT_FINITE, message)
    return named
