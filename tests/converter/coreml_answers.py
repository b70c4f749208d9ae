"""What Core ML models of ONNX models answer: `python -m tests.converter.coreml_answers FOLDER`.

The folder is described in `answering`. Answers come from the reference evaluator of MIL and the saved
mlpackage in FP32. A process of its own, as TensorFlow and PyTorch must not be imported with coremltools.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converter.hidden import hide

for _name in ("tensorflow", "torch", "sklearn"):
    hide(_name)
logging.disable(logging.CRITICAL)

import coremltools as ct  # noqa: E402
import numpy as np  # noqa: E402

from converter.coreml_reference.evaluator import Evaluator  # noqa: E402
from converter.coreml_reference.loading import read_package  # noqa: E402
from converter.passes.onnx_cleaning import with_input_shapes  # noqa: E402
from converter.passes.onnx_to_coreml import built  # noqa: E402
from tests.converter.answering import answer_folder  # noqa: E402

__all__ = ["answers_of"]


def answers_of(model: Any, inputs: Mapping[str, Any]) -> list[Any]:
    """Build the FP32 mlpackage of a model, save it, read it again and evaluate it."""
    with_input_shapes(model, {name: array.shape for name, array in inputs.items()})
    fed = {name: array.astype(_dtype(array)) for name, array in inputs.items()}
    types = [
        ct.TensorType(name=name, shape=array.shape, dtype=array.dtype.type) for name, array in fed.items()
    ]
    made = built(model, types, target=ct.target.iOS16, precision=ct.precision.FLOAT32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.mlpackage"
        made.save(str(path))
        results = Evaluator(read_package(path)).run(fed)
    return list(results.values())


def _dtype(array: Any) -> type:
    return np.float32 if array.dtype.kind == "f" or array.dtype == np.uint8 else np.int32


if __name__ == "__main__":
    answer_folder(Path(sys.argv[1]), answers_of)
