"""Keras → TFLite in integers, with ranges from the calibration set.

Inputs and outputs keep the signature's types: UINT8 pixels are cast in the graph and FP32 scores
dequantised at its end, so that every variant of a release is called alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from converter.datasets import load_datasets
from converter.errors import PassError, Reason
from converter.jobs import Job
from converter.passes.keras_model import trace
from converter.passes.keras_to_tflite import FILE
from converter.passes.prepared import samples
from converter.passes.tensorflow_source import open_source
from converter.passes.tflite_file import describe
from edge_runtime.port import AnyArray

__all__ = ["run"]


def run(job: Job) -> Mapping[str, Any]:
    """Write `model.tflite`; the facts describe it."""
    recipe = job.recipe()
    traced = trace(open_source(job, recipe), recipe, batch=None)
    calibration = load_datasets(recipe).calibration

    def representative() -> Iterator[list[AnyArray]]:
        for sample in samples(recipe, calibration):
            yield [sample[plan.tensor.name] for plan in recipe.inputs]

    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.concrete])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    content: bytes = converter.convert()
    facts = describe(content, [plan.tensor.name for plan in recipe.inputs], traced.output_names)
    if not facts["weighted"] or facts["weighted_integer"] < facts["weighted"]:
        message = (
            f"{facts['weighted_integer']} of {facts['weighted']} weighted operators compute in integers; "
            "ask for fp32 instead"
        )
        raise PassError(job.name, Reason.UNCHANGED, message)
    (job.out / FILE).write_bytes(content)
    return {**facts, "calibration_samples": len(calibration)}
