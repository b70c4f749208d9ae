"""Keras → ONNX, FP32, through tf2onnx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tf2onnx

from converter.jobs import Job
from converter.passes.keras_model import trace
from converter.passes.onnx_file import FILE, canonical, describe
from converter.passes.tensorflow_operators import teach_tf2onnx
from converter.passes.tensorflow_source import open_source

__all__ = ["run"]


def run(job: Job) -> Mapping[str, Any]:
    """Write `model.onnx`; the facts describe it."""
    recipe = job.recipe()
    teach_tf2onnx()
    traced = trace(open_source(job, recipe), recipe, batch=None)
    model, _ = tf2onnx.convert.from_function(
        traced.function, input_signature=traced.signature, opset=int(job.params["opset"])
    )
    (job.out / FILE).write_bytes(canonical(model))
    return describe(model)
