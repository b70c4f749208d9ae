"""Keras → Core ML, FP16 mlpackage, through coremltools' TensorFlow frontend.

Images are computed in floats: the casts to the source's integers stay in the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil.frontend.tensorflow import ops
from coremltools.converters.mil.frontend.tensorflow.tf_op_registry import register_tf_op
from coremltools.converters.mil.mil import types

from converter.jobs import Job
from converter.passes.coreml_file import canonical, check_constants, input_type
from converter.passes.keras_model import trace
from converter.passes.keras_recurrence import written_out
from converter.passes.tensorflow_operators import teach_coreml
from converter.passes.tensorflow_source import open_source

__all__ = ["run"]


def run(job: Job) -> Mapping[str, Any]:
    """Write `<model>.mlpackage`; the facts describe it."""
    recipe = job.recipe()
    _take_small_integers()
    teach_coreml()
    source = open_source(job, recipe)
    with written_out(source):
        traced = trace(source, recipe, batch=1, as_float=True)
    model = ct.convert(
        [traced.concrete],
        source="tensorflow",
        convert_to="mlprogram",
        inputs=[input_type(plan) for plan in recipe.inputs],
        outputs=[ct.TensorType(dtype=np.float32) for _ in recipe.outputs],
        minimum_deployment_target=getattr(ct.target, str(job.params["minimum_deployment_target"])),
        compute_precision=ct.precision.FLOAT16,
        skip_model_load=True,
    )
    operators, halves, constants = check_constants(job, model)
    package = job.out / f"{recipe.name.model}.mlpackage"
    model.save(str(package))
    canonical(package, traced.output_names)
    return {
        "inputs": {plan.tensor.name: plan.tensor.name for plan in recipe.inputs},
        "outputs": {name: name for name in traced.output_names},
        "operators": operators,
        "constants": constants,
        "constants_half": halves,
        "minimum_deployment_target": job.params["minimum_deployment_target"],
    }


def _take_small_integers() -> None:
    """Let the frontend cast to small integers as to INT32: what fits them fits it, and it has no other."""
    original = ops.Cast

    def cast(context: Any, node: Any) -> None:  # noqa: ANN401
        if node.attr["DstT"] in (types.uint8, types.int8, types.uint16, types.int16):
            node.attr["DstT"] = types.int32
        original(context, node)

    cast.__name__ = "Cast"  # the registry goes by the function's name
    register_tf_op(override=True)(cast)
