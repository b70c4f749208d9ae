"""Keras → TFLite, FP32, through TensorFlow's own converter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from converter.errors import RouteError
from converter.jobs import Job
from converter.passes.keras_model import trace
from converter.passes.keras_recurrence import traced_for_lists
from converter.passes.tensorflow_source import open_source
from converter.passes.tflite_file import FILE, describe

__all__ = ["FILE", "run"]

_LOOP = "TensorList"
"""What the states of a loop over cells are kept in, and what the converter says it cannot lower."""


def run(job: Job) -> Mapping[str, Any]:
    """Write `model.tflite`; the facts describe it."""
    recipe = job.recipe()
    source = open_source(job, recipe)
    traced = traced_for_lists(lambda batch: trace(source, recipe, batch=batch))
    # No second argument: with the Keras model there, every answer is NaN and nothing is said.
    try:
        content: bytes = tf.lite.TFLiteConverter.from_concrete_functions([traced.concrete]).convert()
    except Exception as error:  # TensorFlow's own classes derive from Exception alone
        if _LOOP in str(error):
            raise RouteError(
                "TensorFlow's converter has no TFLite operators for the loop of a recurrent layer; "
                "build the layer with unroll=True"
            ) from error
        raise
    (job.out / FILE).write_bytes(content)
    return describe(content, [plan.tensor.name for plan in recipe.inputs], traced.output_names)
