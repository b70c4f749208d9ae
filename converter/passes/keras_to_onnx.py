"""Keras → ONNX, FP32, through tf2onnx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tf2onnx
from onnx import numpy_helper

from converter.jobs import Job
from converter.passes.keras_model import trace
from converter.passes.onnx_file import FILE, canonical, describe
from converter.passes.tensorflow_operators import teach_tf2onnx
from converter.passes.tensorflow_source import open_source

__all__ = ["hold_constants", "run"]


def run(job: Job) -> Mapping[str, Any]:
    """Write `model.onnx`; the facts describe it."""
    recipe = job.recipe()
    teach_tf2onnx()
    traced = trace(open_source(job, recipe), recipe, batch=None)
    model, _ = tf2onnx.convert.from_function(
        traced.function, input_signature=traced.signature, opset=int(job.params["opset"])
    )
    hold_constants(model, traced.concrete)
    (job.out / FILE).write_bytes(canonical(model))
    return describe(model)


def hold_constants(model: Any, concrete: Any) -> None:  # noqa: ANN401 - neither publishes types
    """Make initializers of the inputs that are none: tensors a layer holds that are no variables.

    TensorFlow counts them among a traced function's inputs, and tf2onnx believes it: the mean and the
    variance of `keras.layers.Normalization` became two inputs that no device feeds.

    Args:
        model: What tf2onnx made; changed.
        concrete: The traced function it was made of.
    """
    values = {inner.name: outer for outer, inner in concrete.graph.captures if outer.dtype.name != "resource"}
    graph = model.graph
    for held in [value for value in graph.input if value.name in values]:
        graph.initializer.append(numpy_helper.from_array(values[held.name].numpy(), held.name))
        graph.input.remove(held)
