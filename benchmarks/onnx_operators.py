"""onnx's own tests of operators through our importers, and through those of others.

    python -m benchmarks.onnx_operators [--rival onnx2torch=PYTHON] [--rival onnx2tf=PYTHON] [--json FILE]

Every test of one operator of opsets up to 21 that is about numbers devices have, with what models hold as
weights inside the model. A rival runs in an environment of its own, whose interpreter is given here or in the
environment variable FERRY_ONNX2TORCH or FERRY_ONNX2TF; one that is not given is left out, and said to be.

    python -m tests.converter.onnx_operator_page FILE docs/onnx-operators.md

then writes the page people read. Takes a quarter of an hour, most of it litert_torch's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.figures import command_line, leave
from converter.errors import OperatorRefusedError
from tests.converter.onnx_operator_cases import Case, chosen, compare, judged

_REPOSITORY = Path(__file__).resolve().parents[1]
_RIVALS = _REPOSITORY / "benchmarks" / "rivals"
_OURS = ("coreml", "tflite", "torch")
_NAMES = ("onnx2torch", "onnx2tf")


def measure(rivals: dict[str, str], most: int) -> dict[str, Any]:
    """The reports of everybody, as `tests.converter.onnx_operator_cases` makes them."""
    reports = {target: _ours(target, most) for target in _OURS}
    cases = list(chosen(most))
    for name, python in rivals.items():
        with tempfile.TemporaryDirectory() as folder:
            reports[name] = _rival(name, python, cases, Path(folder))
    return {
        "tests": len(cases),
        "left_out": [name for name in _NAMES if name not in rivals],
        "agreeing": {name: sum(map(len, report["verified"].values())) for name, report in reports.items()},
        "wrong": {name: sum(map(len, report["wrong"].values())) for name, report in reports.items()},
        "reports": reports,
    }


def _ours(target: str, most: int) -> Any:  # noqa: ANN401 - JSON
    command = [sys.executable, "-m", "tests.converter.onnx_operator_cases", target, "--most", str(most)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_REPOSITORY)
    if not done.stdout:
        raise RuntimeError(f"{target}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def _rival(name: str, python: str, cases: list[Case], folder: Path) -> Any:  # noqa: ANN401
    for case in cases:
        onnx.save(case.model, folder / f"{case.name}.onnx")
        np.savez(folder / f"{case.name}.inputs.npz", allow_pickle=False, **case.inputs)
    path = f"{Path(python).absolute().parent}{os.pathsep}{os.environ['PATH']}"  # tools it starts
    # Again after a death, which the test it died at is counted for; each start begins at least one.
    while any(not (folder / f"{case.name}.begun").exists() for case in cases):
        command = [python, str(_RIVALS / f"{name}.py"), str(folder)]
        environment = {**os.environ, "PATH": path}
        done = subprocess.run(command, check=False, capture_output=True, env=environment, cwd=folder)
        if not any(folder.glob("*.begun")):
            raise RuntimeError(f"{name} does not start: {done.stderr.decode()[-2000:]}")
    turned = name == "onnx2tf"
    return judged((case, partial(_read, case, folder, turned=turned)) for case in cases)


def _read(case: Case, folder: Path, *, turned: bool) -> list[Any]:
    """A rival's answers; `turned` gives it the benefit of the doubt where it may answer channels last."""
    refusal, answers = folder / f"{case.name}.refusal.txt", folder / f"{case.name}.outputs.npz"
    if not answers.exists():
        raise OperatorRefusedError(refusal.read_text() if refusal.exists() else "its process died")
    with np.load(answers) as archive:
        outputs = [archive[key] for key in archive.files]
    if not turned or len(outputs) != len(case.outputs):
        return outputs
    return [_channels_first(one, wanted) for one, wanted in zip(outputs, case.outputs, strict=True)]


def _channels_first(got: Any, wanted: Any) -> Any:  # noqa: ANN401 - arrays
    """An answer with its last axis put second, where that and nothing else makes it right."""
    for array in (got, np.moveaxis(got, -1, 1) if got.ndim > len("NC") else got):
        try:
            compare(array, wanted)
        except AssertionError:
            continue
        return array
    return got


def _given(text: str) -> tuple[str, str]:
    name, _, python = text.partition("=")
    if name not in _NAMES or not python:
        raise argparse.ArgumentTypeError(f"use NAME=PYTHON, with a name of {', '.join(_NAMES)}")
    return name, python


def main() -> int:
    """Measure and write."""
    parser = command_line(__doc__, "onnx_operators")
    parser.add_argument("--rival", type=_given, action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--most", type=int, default=1000, help="tests of one operator (default: all)")
    arguments = parser.parse_args()
    known = {name: os.environ.get(f"FERRY_{name.upper()}", "") for name in _NAMES}
    rivals = {**{name: python for name, python in known.items() if python}, **dict(arguments.rival)}
    leave(measure(rivals, arguments.most), arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
