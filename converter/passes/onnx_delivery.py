"""Makes of a checked ONNX graph the file for devices: the recipe's signature, and nothing superfluous."""

from __future__ import annotations

from typing import Any

import onnx

from converter.errors import SourceError
from converter.jobs import Job
from converter.onnx_ml.rewriting import TREES, plain
from converter.passes.onnx_cleaning import folded, shapes_of, value_info
from converter.passes.onnx_file import FILE, canonical, describe
from converter.passes.onnx_preprocessing import with_signature
from converter.passes.signature import Matched
from converter.recipe import Recipe
from ota_contract.tensors import DYNAMIC

__all__ = ["deliver"]


def deliver(job: Job, recipe: Recipe, model: Any, matched: Matched) -> dict[str, Any]:  # noqa: ANN401
    """Write `model.onnx`; returns the facts that describe it.

    Operators of `ai.onnx.ml` are written out where they can be, so that all routes read them; but not
    tree ensembles, which ONNX Runtime computes an order of magnitude faster as they are.

    Raises:
        SourceError: An output has another shape than the recipe says.
    """
    model = with_signature(model, matched)
    model = folded(plain(model, keep=frozenset(TREES), strict=False))
    _check_outputs(model, recipe)
    _with_recipe_outputs(model, recipe)
    used = {node.domain for node in model.graph.node} | {""}
    kept = [item for item in model.opset_import if item.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import))
    content = canonical(model)
    (job.out / FILE).write_bytes(content)
    return describe(model)


def _check_outputs(model: Any, recipe: Recipe) -> None:  # noqa: ANN401 - onnx publishes no types
    shapes = shapes_of(model)
    for tensor in recipe.outputs:
        found = shapes.get(tensor.name)
        if found is None:
            continue
        fits = len(found) == len(tensor.shape) and all(
            DYNAMIC in (own, wanted) or own == wanted for own, wanted in zip(found, tensor.shape, strict=True)
        )
        if not fits:
            raise SourceError(
                f"the model answers {tensor.name} of shape {list(found)}, {recipe.shown} says "
                f"{list(tensor.shape)}"
            )


def _with_recipe_outputs(model: Any, recipe: Recipe) -> None:  # noqa: ANN401
    """State the outputs as the recipe does, where inference knows no better."""
    tensors = {tensor.name: tensor for tensor in recipe.outputs}
    for item in model.graph.output:
        item.CopyFrom(value_info(item.name, onnx.TensorProto.FLOAT, tensors[item.name].shape))
