"""PyTorch → ONNX, FP32, by PyTorch's own exporter, then made fit for devices as any ONNX source is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from converter.errors import OperatorRefusedError
from converter.jobs import Job
from converter.passes.onnx_delivery import deliver
from converter.passes.onnx_signature import matched
from converter.passes.torch_source import TorchSource, open_torch

__all__ = ["exported", "run"]

_LINE = 300


def run(job: Job) -> Mapping[str, Any]:
    """Write `model.onnx`; the facts describe it, and tell the source's digest."""
    recipe = job.recipe()
    source = open_torch(job, recipe)
    model = exported(source, opset=int(job.params["opset"]))
    facts = deliver(job, recipe, model, matched(model, recipe))
    return {**facts, "source_sha256": source.sha256}


def exported(source: TorchSource, *, opset: int) -> Any:  # noqa: ANN401 - onnx publishes no types
    """The ONNX model of a program, with the program's own names, shapes and layout.

    Raises:
        OperatorRefusedError: An operator PyTorch's exporter does not know.
    """
    try:
        made = torch.onnx.export(
            source.program,
            dynamo=True,
            opset_version=opset,
            input_names=list(source.input_names),
            output_names=list(source.output_names),
            external_data=False,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise OperatorRefusedError(f"PyTorch cannot export the program to ONNX: {_cause(error)}") from error
    if made is None:
        raise OperatorRefusedError("PyTorch exported no ONNX model")
    return made.model_proto


def _cause(error: BaseException) -> str:
    """What the innermost error says: the outer ones are reports of many lines."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:_LINE]
