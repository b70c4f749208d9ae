"""ONNX → TFLite, FP32, through the importer in `converter.onnx_to_torch` and litert_torch.

The file takes one sample, as litert_torch lowers no dynamic length. It takes it in the recipe's layout: the
change to what the source computes in is in the graph, and litert_torch takes what it can of it away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx

from converter.jobs import Job
from converter.onnx_importing.fusing import with_gelu
from converter.onnx_ml.rewriting import plain_for
from converter.onnx_to_torch.importing import module_of
from converter.onnx_to_torch.node import Node
from converter.passes.fixed_shapes import fixed_shape
from converter.passes.litert_file import tflite_of
from converter.passes.onnx_cleaning import folded, with_input_shapes
from converter.passes.tflite_file import describe

__all__ = ["FILE", "built", "run"]

FILE = "model.tflite"
_KIND = "a TFLite variant of an ONNX model"


def run(job: Job) -> Mapping[str, Any]:
    """Write `model.tflite`; the facts describe it."""
    recipe = job.recipe()
    model = plain_for(onnx.load(job.inputs["model"]), Node.target)
    tensors = [plan.tensor for plan in recipe.inputs]
    with_input_shapes(model, {tensor.name: fixed_shape(tensor, recipe, _KIND) for tensor in tensors})
    content = built(model)
    (job.out / FILE).write_bytes(content)
    return describe(
        content, [item.name for item in model.graph.input], [item.name for item in model.graph.output]
    )


def built(model: Any) -> bytes:  # noqa: ANN401 - onnx publishes no types
    """The TFLite file of an ONNX model whose inputs have fixed shapes; inputs and outputs keep their order.

    Raises:
        OperatorRefusedError: An operator, or a use of one, that is not known.
    """
    model = folded(model)
    with_gelu(model.graph)
    module = module_of(model)
    return tflite_of(module, module.example())
