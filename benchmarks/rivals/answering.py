"""A folder of ONNX models with inputs, answered by another converter in an environment of its own.

    PYTHON benchmarks/rivals/<rival>.py FOLDER

FOLDER holds `<name>.onnx` and `<name>.inputs.npz`. Beside them come `<name>.outputs.npz`, or
`<name>.refusal.txt` with what was raised. Models begun before are left alone, so that a run that died can go
on after the one it died at. This file imports nothing of the project, which is not there.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["answer"]


def answer(answers_of: Callable[[Path, dict[str, Any]], list[Any]]) -> None:
    """Answer the models of the folder on the command line, by a function of a model's path and inputs."""
    for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
        begun = path.with_suffix(".begun")
        if begun.exists():
            continue
        begun.touch()
        with np.load(path.with_suffix(".inputs.npz")) as archive:
            inputs = {name: archive[name] for name in archive.files}
        try:
            outputs = answers_of(path, inputs)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a rival raises, it has no answer
            text = " ".join(f"{type(error).__name__}: {error}".split())
            path.with_suffix(".refusal.txt").write_text(text[:300])
        else:
            np.savez(path.with_suffix(".outputs.npz"), *outputs)
