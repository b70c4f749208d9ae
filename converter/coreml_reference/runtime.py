"""The reference evaluator behind the runtimes' port, for verification alone: no device answers by it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from converter.coreml_reference.datatypes import Array
from converter.coreml_reference.evaluator import Evaluator
from converter.coreml_reference.loading import read_package
from converter.coreml_reference.program import Program
from edge_runtime.errors import InferenceError, ModelLoadError
from edge_runtime.port import AnyArray
from ota_contract.manifest import Release, Variant

__all__ = ["HOW", "ReferenceModel", "feature", "load"]

HOW = (
    "the reference evaluator (MIL semantics, rounded after every operation; not Apple's compiler or hardware)"
)
"""What a verdict by this evaluator says of itself."""

_IMAGE_RANK = 4


class ReferenceModel:
    """A saved mlpackage, evaluated as written."""

    accelerator = "reference evaluator"

    def __init__(self, evaluator: Evaluator, variant: Variant) -> None:
        """Wrap a program whose names the variant's bindings give."""
        self._evaluator = evaluator
        self._inputs = {binding.name: binding.inner for binding in variant.inputs}
        self._outputs = {binding.name: binding.inner for binding in variant.outputs}

    def run(self, inputs: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """See `LoadedModel.run`.

        Raises:
            UnsupportedOperationError: An operation is used in a way the evaluator does not know.
        """
        program = self._evaluator.program
        given = {inner: feature(program, inner, inputs[name]) for name, inner in self._inputs.items()}
        results = self._evaluator.run(given)
        return {name: results[inner].astype(np.float32) for name, inner in self._outputs.items()}

    def close(self) -> None:
        """Drop the model."""
        del self._evaluator


def feature(program: Program, inner: str, array: Array) -> Array:
    """An array as the program takes it; a picture comes as NHWC and goes in as planes."""
    blue_first = program.images.get(inner)
    if blue_first is None:
        return array
    if array.ndim != _IMAGE_RANK or array.shape[0] != 1:
        raise InferenceError("coreml: an image input takes one NHWC image")
    planes = array.transpose(0, 3, 1, 2)
    return planes[:, ::-1] if blue_first else planes


def load(release: Release, variant: Variant, folder: Path, threads: int) -> ReferenceModel:
    """Open a variant; see `edge_runtime.loading.load`.

    Raises:
        UnsupportedOperationError: The model holds what the evaluator does not know.
        ModelLoadError: It is cut short, malformed, or lacks a tensor the manifest binds.
    """
    del release, threads
    program = read_package((folder / variant.model_file.path).parent)
    known = {named.name for named in program.inputs} | set(program.block.outputs)
    for binding in (*variant.inputs, *variant.outputs):
        if binding.inner not in known:
            raise ModelLoadError(f"the program has no tensor named {binding.inner!r}")
    return ReferenceModel(Evaluator(program), variant)
