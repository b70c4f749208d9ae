"""Lists the layers of a float model file that can be given another precision.

Its input `model` is a `.onnx` or `.tflite` file or an `.mlpackage` folder. A layer without weights can be
named by rules of variants whose arithmetic changes (fp16, mixed, int8, int16x8), not of those that store
weights alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converter.errors import SourceError
from converter.jobs import Job
from converter.layers import Layer, layer_facts

__all__ = ["layers_of", "run"]


def run(job: Job) -> Mapping[str, Any]:
    """The fact is `layers`, which `converter.layers.read_layers` reads."""
    return {"layers": layer_facts(layers_of(job.inputs["model"]))}


def layers_of(model: Path) -> tuple[Layer, ...]:
    """The layers of a model file, in its order.

    Raises:
        SourceError: It is of no format known here.
    """
    match model.suffix:
        case ".onnx":
            import onnx  # noqa: PLC0415 - each format's own library alone

            from converter.passes.onnx_layers import onnx_layers  # noqa: PLC0415

            return onnx_layers(onnx.load(model))
        case ".tflite":
            from converter.passes.tflite_layers import opened, tflite_layers  # noqa: PLC0415

            return tflite_layers(opened(model.read_bytes()))
        case ".mlpackage":
            from converter.coreml_reference.loading import read_package  # noqa: PLC0415
            from converter.passes.coreml_layers import coreml_layers  # noqa: PLC0415

            return coreml_layers(read_package(model))
    raise SourceError(f"{model.name} is no ONNX, TFLite or Core ML file")
