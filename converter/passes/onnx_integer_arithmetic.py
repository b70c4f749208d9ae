"""Lets ONNX nodes compute in integers, by ONNX Runtime's quantizers: with fixed ranges, or as values come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantizationMode
from onnxruntime.quantization.registry import IntegerOpsRegistry, QDQRegistry, QLinearOpsRegistry

__all__ = ["quantize_dynamically", "quantize_statically"]


def quantize_dynamically(
    model: Any,  # noqa: ANN401 - onnx publishes no types
    names: frozenset[str],
    *,
    per_channel: bool,
    reduce_range: bool,
) -> Any:  # noqa: ANN401
    """The model with the weighted nodes of these names in integers, ranges being found at each run."""
    # ONNX Runtime has no convolution for signed weights with ranges found at run time.
    for kinds, weight_type in ((("Conv",), QuantType.QUInt8), (_other_kinds(), QuantType.QInt8)):
        chosen = [node.name for node in model.graph.node if node.name in names and node.op_type in kinds]
        if not chosen:
            continue
        quantizer = ONNXQuantizer(
            onnx.shape_inference.infer_shapes(model),
            per_channel and weight_type is QuantType.QInt8,
            reduce_range,
            QuantizationMode.IntegerOps,
            False,  # noqa: FBT003 - not static
            weight_type,
            QuantType.QUInt8,
            None,
            chosen,
            [],
            sorted(kinds),
            {"MatMulConstBOnly": True},
        )
        model = quantizer.quantize_model()
    return model


def quantize_statically(
    model: Any,  # noqa: ANN401
    names: frozenset[str],
    ranges: Mapping[str, tuple[float, float]],
    *,
    per_channel: bool,
    reduce_range: bool,
) -> Any:  # noqa: ANN401
    """The model with QuantizeLinear and DequantizeLinear around the nodes of these names.

    Args:
        model: With inferred shapes.
        names: Of the nodes; at least one.
        ranges: Of its float tensors.
        per_channel: Whether every output channel of a weight has a scale of its own.
        reduce_range: Seven-bit weights.
    """
    data = {
        name: TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }
    quantizer = QDQQuantizer(
        onnx.shape_inference.infer_shapes(model),
        per_channel,
        reduce_range,
        QuantType.QInt8,
        QuantType.QInt8,
        TensorsData(CalibrationMethod.MinMax, data),
        sorted(names),
        [],
        sorted({*QDQRegistry, *QLinearOpsRegistry}),
        {},
    )
    return quantizer.quantize_model()


def _other_kinds() -> tuple[str, ...]:
    return tuple(kind for kind in IntegerOpsRegistry if kind != "Conv")
