"""What every Core ML pass does with its model: types of inputs, checks of weights, repeatable bytes.

An image input is a Core ML image, so an app hands over a pixel buffer.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.proto import Model_pb2

from converter.errors import PassError, Reason
from converter.jobs import Job
from converter.recipe import InputPlan
from ota_contract.tensors import Datatype

__all__ = ["canonical", "check_constants", "input_type"]

_IMAGE_CHANNELS = {1: "GRAYSCALE", 3: "RGB"}
_IMAGE_RANK = 4
_SPECIFICATION = "Data/com.apple.CoreML/model.mlmodel"
_MANIFEST = "Manifest.json"
_IDENTIFIERS = uuid.UUID("0f1e5f86-5d1e-5f6a-9d57-6c0f3f6f8f11")
"""A namespace of our own: identifiers are made from paths instead of chance."""


def input_type(plan: InputPlan) -> Any:  # noqa: ANN401 - coremltools is untyped
    """How Core ML takes an input: an image where it is one, else floats."""
    tensor = plan.tensor
    shape = tuple(1 if length < 0 else length for length in tensor.shape)
    channels = shape[-1] if len(shape) == _IMAGE_RANK and tensor.layout == "NHWC" else 0
    if tensor.datatype is Datatype.UINT8 and channels in _IMAGE_CHANNELS:
        layout = ct.colorlayout[_IMAGE_CHANNELS[channels]]
        return ct.ImageType(name=tensor.name, shape=shape, color_layout=layout, channel_first=False)
    return ct.TensorType(name=tensor.name, shape=shape, dtype=np.float32)


def check_constants(
    job: Job,
    model: Any,  # noqa: ANN401
    *,
    in_halves: bool = True,
) -> tuple[int, int, int]:
    """Count operators, constants in FP16, and constants; one that half floats cannot hold is an error.

    Raises:
        PassError: That, or the constants are not in halves as wanted, or not in singles.
    """
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
    if in_halves and not halves:
        raise PassError(job.name, Reason.UNCHANGED, "no weight is in half floats")
    if halves and not in_halves:
        raise PassError(job.name, Reason.UNCHANGED, f"{halves} of {constants} constants are in half floats")
    return operators, halves, constants


def canonical(package: Path, output_names: Sequence[str]) -> None:
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
    # As coremltools writes it whenever it opens a package: else opening one changes a file that is signed.
    (package / _MANIFEST).write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n")
    for file in package.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)  # coremltools leaves the model unreadable to others
