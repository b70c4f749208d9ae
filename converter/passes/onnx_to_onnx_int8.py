"""ONNX FP32 → ONNX INT8: static QDQ, per channel, with ranges from the calibration set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from converter.datasets import Dataset, load_datasets
from converter.errors import PassError, Reason
from converter.jobs import Job
from converter.passes.onnx_file import FILE, canonical, describe
from converter.passes.prepared import samples
from converter.recipe import Recipe
from edge_runtime.port import AnyArray

__all__ = ["run"]


class _Calibration(CalibrationDataReader):  # type: ignore[misc] # no types
    """The calibration set, as the quantizer reads it."""

    def __init__(self, recipe: Recipe, data: Dataset) -> None:
        self._samples = samples(recipe, data)

    def get_next(self) -> dict[str, AnyArray] | None:
        """The next sample, or None at the end."""
        return next(self._samples, None)


def run(job: Job) -> Mapping[str, Any]:
    """Write `model.onnx`; the facts describe it."""
    recipe = job.recipe()
    calibration = load_datasets(recipe).calibration
    source, folded, quantized = job.inputs["model"], job.folder / "folded.onnx", job.folder / "int8.onnx"
    quant_pre_process(source, folded, skip_symbolic_shape=True)
    quantize_static(
        folded,
        quantized,
        _Calibration(recipe, calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=bool(job.params["reduce_range"]),
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
    )
    model = onnx.load(quantized)
    content = canonical(model)
    facts = describe(model)
    if not facts["weighted"] or facts["weighted_integer"] < facts["weighted"]:
        message = f"{facts['weighted_integer']} of {facts['weighted']} weighted operators were quantized"
        raise PassError(job.name, Reason.UNCHANGED, f"{message}; ask for fp32 instead")
    (job.out / FILE).write_bytes(content)
    return {**facts, "calibration_samples": len(calibration)}
