"""Keras → Core ML, FP16 mlpackage, through coremltools' TensorFlow frontend.

An image input is a Core ML image, so an app hands over a pixel buffer. It is computed in floats: the
casts to the source's integers stay in the graph.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil.frontend.tensorflow import ops
from coremltools.converters.mil.frontend.tensorflow.tf_op_registry import register_tf_op
from coremltools.converters.mil.mil import types
from coremltools.proto import Model_pb2

from converter.errors import PassError, Reason
from converter.jobs import Job
from converter.passes.keras_model import open_model, trace
from converter.recipe import InputPlan
from ota_contract.tensors import Datatype

__all__ = ["run"]

_IMAGE_CHANNELS = {1: "GRAYSCALE", 3: "RGB"}
_IMAGE_RANK = 4
_SPECIFICATION = "Data/com.apple.CoreML/model.mlmodel"
_MANIFEST = "Manifest.json"
_IDENTIFIERS = uuid.UUID("0f1e5f86-5d1e-5f6a-9d57-6c0f3f6f8f11")
"""A namespace of our own: identifiers are made from paths instead of chance."""


def run(job: Job) -> Mapping[str, Any]:
    """Write `<model>.mlpackage`; the facts describe it."""
    recipe = job.recipe()
    _take_small_integers()
    traced = trace(open_model(job, recipe), recipe, batch=1, as_float=True)
    model = ct.convert(
        [traced.concrete],
        source="tensorflow",
        convert_to="mlprogram",
        inputs=[_input(plan) for plan in recipe.inputs],
        outputs=[ct.TensorType(dtype=np.float32) for _ in recipe.outputs],
        minimum_deployment_target=getattr(ct.target, str(job.params["minimum_deployment_target"])),
        compute_precision=ct.precision.FLOAT16,
        skip_model_load=True,
    )
    operators, halves, constants = _check_constants(job, model)
    package = job.out / f"{recipe.name.model}.mlpackage"
    model.save(str(package))
    _canonical(package, traced.output_names)
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


def _input(plan: InputPlan) -> Any:  # noqa: ANN401 - coremltools is untyped
    tensor = plan.tensor
    shape = tuple(1 if length < 0 else length for length in tensor.shape)
    channels = shape[-1] if len(shape) == _IMAGE_RANK and tensor.layout == "NHWC" else 0
    if tensor.datatype is Datatype.UINT8 and channels in _IMAGE_CHANNELS:
        layout = ct.colorlayout[_IMAGE_CHANNELS[channels]]
        return ct.ImageType(name=tensor.name, shape=shape, color_layout=layout, channel_first=False)
    return ct.TensorType(name=tensor.name, shape=shape, dtype=np.float32)


def _check_constants(job: Job, model: Any) -> tuple[int, int, int]:  # noqa: ANN401
    """Count operators, and constants in FP16; a constant that half floats cannot hold is an error."""
    operators = halves = constants = 0
    for operation in model._mil_program.functions["main"].operations:  # noqa: SLF001 - no public way
        if operation.op_type != "const":
            operators += 1
            continue
        value = np.asarray(operation.outputs[0].val)
        if value.dtype.kind != "f":
            continue
        constants += 1
        halves += value.dtype == np.float16
        if not np.isfinite(value).all():
            raise PassError(job.name, Reason.NOT_FINITE, "a weight does not fit half floats")
    if not halves:
        raise PassError(job.name, Reason.UNCHANGED, "no weight is in half floats")
    return operators, halves, constants


def _canonical(package: Path, output_names: Sequence[str]) -> None:
    """Name the outputs as the signature does; replace dates, random identifiers and unordered maps."""
    path = package / _SPECIFICATION
    specification = Model_pb2.Model()
    specification.ParseFromString(path.read_bytes())
    found = [feature.name for feature in specification.description.output]
    for old, new in zip(found, output_names, strict=True):
        ct.utils.rename_feature(specification, old, new, rename_inputs=False)
    specification.description.metadata.userDefined.pop("com.github.apple.coremltools.conversion_date", None)
    path.write_bytes(specification.SerializeToString(deterministic=True))
    manifest = json.loads((package / _MANIFEST).read_text())
    entries = manifest["itemInfoEntries"]
    renamed = {old: str(uuid.uuid5(_IDENTIFIERS, entry["path"])) for old, entry in entries.items()}
    manifest["itemInfoEntries"] = {renamed[old]: entry for old, entry in entries.items()}
    manifest["rootModelIdentifier"] = renamed[manifest["rootModelIdentifier"]]
    (package / _MANIFEST).write_text(json.dumps(manifest, indent=4, sort_keys=True))
    for file in package.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)  # coremltools leaves the model unreadable to others
