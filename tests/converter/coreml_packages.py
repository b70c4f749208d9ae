"""Saved mlpackages for the reference evaluator, as coremltools writes them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder
from coremltools.converters.mil.mil import types

from converter.coreml_reference.datatypes import Array
from converter.coreml_reference.evaluator import Evaluator
from converter.coreml_reference.loading import read_package

__all__ = [
    "FLOAT",
    "HALF",
    "MODEL",
    "WEIGHTS",
    "Builder",
    "answers",
    "built",
    "evaluator",
    "from_tensorflow",
    "saved",
]

logging.getLogger("coremltools").setLevel(logging.ERROR)

FLOAT, HALF = ct.precision.FLOAT32, ct.precision.FLOAT16
MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
_TYPES = {"f": types.fp32, "i": types.int32, "b": types.bool}
_names = itertools.count()


def built(
    build: Callable[..., Any],
    *inputs: Array,
    target: str = "iOS16",
    precision: Any = FLOAT,
) -> Any:
    """An `MLModel` of a program; its inputs are like those given."""
    opset = getattr(ct.target, target)
    specs = [Builder.TensorSpec(shape=value.shape, dtype=_TYPES[value.dtype.kind]) for value in inputs]
    program = Builder.program(input_specs=specs, opset_version=opset)(build)
    return ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=opset,
        compute_precision=precision,
        skip_model_load=True,
    )


def from_tensorflow(function: Any, *inputs: Any, target: str = "iOS16", precision: Any = FLOAT) -> Any:
    """An `MLModel` of a concrete function; inputs as coremltools describes them."""
    return ct.convert(
        [function],
        source="tensorflow",
        convert_to="mlprogram",
        inputs=list(inputs) or None,
        minimum_deployment_target=getattr(ct.target, target),
        compute_precision=precision,
        skip_model_load=True,
    )


def saved(model: Any, folder: Path) -> Path:
    """The package of a model, under a name of its own."""
    package = folder / f"model{next(_names)}.mlpackage"
    model.save(str(package))
    return package


def evaluator(package: Path) -> Evaluator:
    """The reference evaluator of a package."""
    return Evaluator(read_package(package))


def answers(package: Path, *inputs: Array) -> list[Array]:
    """The results of a package, in its order, for inputs in its order."""
    model = evaluator(package)
    names: Sequence[str] = [named.name for named in model.program.inputs]
    given: Mapping[str, Array] = dict(zip(names, map(np.asarray, inputs), strict=True))
    return list(model.run(given).values())
