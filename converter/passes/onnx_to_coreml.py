"""ONNX → Core ML mlpackage, FP16 unless told otherwise, through the importer in `converter.onnx_to_mil`.

Trees decide in single floats: a feature rounded to half of one would take another branch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import coremltools as ct
import numpy as np
import onnx

from converter.jobs import Job
from converter.onnx_importing.fusing import with_gelu
from converter.onnx_ml.rewriting import plain_for, uses_ml
from converter.onnx_to_mil.importing import program_of
from converter.onnx_to_mil.node import Node
from converter.passes.coreml_file import canonical, check_constants, input_type
from converter.passes.fixed_shapes import fixed_shape
from converter.passes.onnx_cleaning import folded, with_input_shapes
from converter.recipe import InputPlan
from converter.variants import Precision
from ota_contract.tensors import Datatype

__all__ = ["built", "run"]

_KIND = "a Core ML variant"
_WHOLE = (Datatype.INT32, Datatype.INT64, Datatype.INT16, Datatype.INT8, Datatype.UINT16)


def run(job: Job) -> Mapping[str, Any]:
    """Write `<model>.mlpackage`; the facts describe it."""
    recipe = job.recipe()
    source = onnx.load(job.inputs["model"])
    model = plain_for(source, Node.target)
    tensors = [plan.tensor for plan in recipe.inputs]
    with_input_shapes(model, {tensor.name: fixed_shape(tensor, recipe, _KIND) for tensor in tensors})
    target = getattr(ct.target, str(job.params["minimum_deployment_target"]))
    halves_where = _undecided if uses_ml(source) else None
    single = job.params.get("precision") == Precision.FP32.value
    halves = ct.transform.FP16ComputePrecision(op_selector=halves_where)
    precision = ct.precision.FLOAT32 if single else halves
    made = built(model, [_input(plan) for plan in recipe.inputs], target=target, precision=precision)
    operators, halved, constants = check_constants(job, made, in_halves=not single)
    package = job.out / f"{recipe.name.model}.mlpackage"
    made.save(str(package))
    names = [tensor.name for tensor in recipe.outputs]
    canonical(package, [item.name for item in model.graph.output])
    return {
        "inputs": {plan.tensor.name: plan.tensor.name for plan in recipe.inputs},
        "outputs": {name: name for name in names},
        "operators": operators,
        "constants": constants,
        "constants_half": halved,
        "minimum_deployment_target": job.params["minimum_deployment_target"],
    }


def built(model: Any, inputs: Sequence[Any], *, target: Any, precision: Any) -> Any:  # noqa: ANN401
    """The Core ML model of an ONNX model whose inputs have fixed shapes.

    Raises:
        OperatorRefusedError: An operator, or a use of one, that is not known.
    """
    model = folded(model)
    with_gelu(model.graph)
    program = program_of(model, opset_version=target)
    return ct.convert(
        program,
        source="milinternal",
        convert_to="mlprogram",
        inputs=list(inputs),
        minimum_deployment_target=target,
        compute_precision=precision,
        skip_model_load=True,
    )


def _undecided(operation: Any) -> bool:  # noqa: ANN401
    """Whether an operation may be in half floats: no tree's decision depends on it."""
    pending, seen = [operation], set[str]()
    while pending:
        item = pending.pop()
        if item.op_type == "greater":
            return False
        if item.name not in seen:
            seen.add(item.name)
            pending.extend(child for output in item.outputs for child in output.child_ops)
    return True


def _input(plan: InputPlan) -> Any:  # noqa: ANN401 - coremltools is untyped
    """As for every source, but whole numbers stay whole: as half floats they would round from 2,049 on."""
    tensor = plan.tensor
    if tensor.datatype in _WHOLE:
        shape = tuple(1 if length < 0 else length for length in tensor.shape)
        return ct.TensorType(name=tensor.name, shape=shape, dtype=np.int32)
    return input_type(plan)
