"""Opens an ONNX source: bounded, checked, its external weights read, and compared with the recipe.

An ONNX file runs no code, but it may be damaged, point at files outside its folder, need operators
nobody here has, or hold NaN. Each is refused here in one line, before anything is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper

from converter.errors import PassError, Reason, SourceError
from converter.jobs import Job
from converter.onnx_ml.zipmaps import Labels, without_zipmaps
from converter.passes.finite import means_infinity
from converter.passes.onnx_external import read_external
from converter.passes.onnx_graphs import all_nodes, all_tensors
from converter.passes.onnx_signature import matched
from converter.passes.signature import Matched
from converter.recipe import Recipe, shown_path
from converter.source_file import check_source

__all__ = ["MAX_OPSET", "MIN_OPSET", "OnnxSource", "open_onnx", "opset_of"]

MIN_OPSET, MAX_OPSET = 7, 21
"""Older opsets are not in ONNX Runtime any more; newer ones are not in the runtimes devices have."""
_UPGRADED = 13
"""What older opsets are raised to: from here on squeezing and reducing take their axes as inputs."""
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
_MAX_NODES = 100_000
_MAX_TENSORS = 100_000
_MAX_BYTES = 2**31 - 2**20
_LINE = 200
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxSource:
    """A checked source."""

    model: Any
    """All weights inside, functions inlined, opset within bounds; not yet changed otherwise."""
    sha256: str
    """Of the file, and of those with its weights."""
    matched: Matched
    zipped: Mapping[str, Labels]
    """Outputs that the file makes dictionaries of, and their keys; in `model` they are tensors."""


def open_onnx(job: Job, recipe: Recipe) -> OnnxSource:
    """Load and check the source of a recipe.

    Raises:
        SourceError: Unreadable, out of bounds, or not what the recipe describes.
        PassError: NaN or infinity among its weights.
    """
    digest = check_source(recipe)
    shown = shown_path(recipe.source)
    model = _parsed(recipe, shown)
    _check_bounds(model, shown)
    digest = read_external(model, recipe.source, digest, max_bytes=_MAX_BYTES)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise SourceError(f"{shown} is not a valid ONNX model: {_first_line(error)}") from error
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    _check_operators(model, shown)
    _check_finite(job, model, shown)
    model = _with_known_opset(model, shown)
    zipped = without_zipmaps(model)
    return OnnxSource(model=model, sha256=digest, matched=matched(model, recipe), zipped=zipped)


def _parsed(recipe: Recipe, shown: str) -> Any:  # noqa: ANN401 - onnx publishes no types
    try:
        model = onnx.load(str(recipe.source), load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise SourceError(f"{shown} is not a readable ONNX file: damaged or cut short") from error
    if not model.graph.node or not model.opset_import:
        raise SourceError(f"{shown} is not an ONNX model, or is cut short: it has no operators")
    return model


def _check_bounds(model: Any, shown: str) -> None:  # noqa: ANN401
    try:
        nodes = sum(1 for _ in all_nodes(model))
        tensors = sum(1 for _ in all_tensors(model))
    except RecursionError as error:
        raise SourceError(f"{shown}: graphs within graphs, too deep") from error
    for count, most, what in ((nodes, _MAX_NODES, "operators"), (tensors, _MAX_TENSORS, "tensors")):
        if count > most:
            raise SourceError(f"{shown}: {count} {what}, at most {most} are allowed")
    if model.graph.sparse_initializer:
        raise SourceError(f"{shown}: sparse weights are not supported; save them dense")


def _check_operators(model: Any, shown: str) -> None:  # noqa: ANN401
    foreign: dict[str, int] = {}
    for node in all_nodes(model):
        if node.domain not in _DOMAINS:
            name = f"{node.domain}.{node.op_type}"
            foreign[name] = foreign.get(name, 0) + 1
    if foreign:
        listed = ", ".join(f"{name} ({count}×)" for name, count in sorted(foreign.items()))
        raise SourceError(
            f"{shown} needs operators outside the ONNX standard: {listed}; export it without them"[
                : _LINE * 2
            ]
        )
    opset = opset_of(model)
    if not MIN_OPSET <= opset <= MAX_OPSET:
        newest = onnx.defs.onnx_opset_version()
        beyond = " (which this onnx does not know)" if opset > newest else ""
        raise SourceError(
            f"{shown} is of opset {opset}{beyond}; export it with one of {MIN_OPSET} to {MAX_OPSET}"
        )


def opset_of(model: Any) -> int:  # noqa: ANN401
    """The version of the standard operators a model asks for; 0 where it names none."""
    return max((item.version for item in model.opset_import if item.domain in _DOMAINS[:2]), default=0)


def _check_finite(job: Job, model: Any, shown: str) -> None:  # noqa: ANN401
    for name, tensor in all_tensors(model):
        if tensor.data_type not in _FLOATS:
            continue
        array = numpy_helper.to_array(tensor)
        if not np.isfinite(array).all() and not means_infinity(array):
            message = f"{shown}: weight {name or '(unnamed)'} holds NaN or infinity; train the model again"
            raise PassError(job.name, Reason.NOT_FINITE, message)


def _with_known_opset(model: Any, shown: str) -> Any:  # noqa: ANN401
    opset = opset_of(model)
    if opset >= _UPGRADED:
        return model
    try:
        return onnx.version_converter.convert_version(model, _UPGRADED)
    except Exception as error:  # onnx raises RuntimeError and its own kinds
        raise SourceError(
            f"{shown} is of opset {opset} and cannot be raised to {_UPGRADED}: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:_LINE]
