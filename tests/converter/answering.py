"""A folder of ONNX models with inputs, and what somebody's conversion of them answers.

FOLDER holds `<name>.onnx` and `<name>.inputs.npz`; beside them come `<name>.outputs.npz`, or
`<name>.refusal.txt` with the reason in one line.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from converter.errors import ConverterError

__all__ = ["AnswersOf", "answer_folder"]

AnswersOf = Callable[[Any, Mapping[str, Any]], list[Any]]
"""From a model and its inputs to its outputs."""


def answer_folder(folder: Path, answers_of: AnswersOf) -> None:
    """Write the answers of every model of a folder."""
    gc.freeze()  # coremltools collects after every conversion, and would walk all modules
    for path in sorted(folder.glob("*.onnx")):
        with np.load(path.with_suffix(".inputs.npz")) as archive:
            inputs = {name: archive[name] for name in archive.files}
        try:
            outputs = answers_of(onnx.load(path), inputs)
        except ConverterError as error:
            path.with_suffix(".refusal.txt").write_text(str(error))
        else:
            np.savez(path.with_suffix(".outputs.npz"), *outputs)
