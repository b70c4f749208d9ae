"""What `ferry convert` costs over its tools, what a second run takes, and what a search finds.

    python -m benchmarks.converter [--json FILE] [--runs N] [--no-search]

The digits model is trained and converted into TFLite and ONNX, each in FP32 and INT8: by Ferry, and by a
script of the same tools without it (`benchmarks.rivals.by_hand`), in turns. Both convert, quantize and answer
the evaluation samples one by one. Ferry's latencies are known from a run before, its results are not
(`--no-cache`). What it does beyond, it does in the same time: parity, golden vectors, intervals, report; the
layers' sensitivity, which the script has no counterpart of, is switched off (`sensitivity_s = 0`) and told
apart in `with_sensitivity_s`.

Then INT8 that is searched for (`precision = "auto"`) beside the script's: plain static quantization of ONNX
Runtime and plain post-training quantization of TensorFlow. Takes some minutes; wants a quiet machine.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

from benchmarks.figures import command_line, leave
from converter import Package, convert
from ota_contract.manifest import MILLION

_REPOSITORY = Path(__file__).resolve().parents[1]
_DIGITS = _REPOSITORY / "models" / "digits"
_VARIANTS = [
    {"runtime": runtime, "precision": precision}
    for runtime in ("tflite", "onnx")
    for precision in ("fp32", "int8")
]


def measure(folder: Path, *, runs: int, search: bool) -> dict[str, Any]:
    """Every figure."""
    os.environ["FERRY_CACHE"] = str(folder / "cache")
    model = folder / "model"
    _python(str(_DIGITS / "train.py"), "--out", str(model))
    recipe = _recipe(model)
    quick = {**recipe, "search": {"sensitivity_s": 0}}
    first = _timed(quick, folder, results=False)  # measures latency once
    figures: dict[str, Any] = {"model": "digits", "runs": runs, "first_run_s": first}
    ours, theirs, scripts = [], [], []
    for _ in range(runs):  # in turns: what slows this machine slows both
        scripts.append(_by_hand(model, folder))
        theirs.append(scripts[-1]["wall_s"])
        ours.append(_timed(quick, folder, results=False))
    figures["by_hand_s"], figures["ferry_s"] = theirs, ours
    figures["overhead"] = round(statistics.median(ours) / statistics.median(theirs) - 1, 3)
    figures["with_sensitivity_s"] = _timed(recipe, folder, results=False)
    _timed(recipe, folder, results=True)
    figures["second_run_s"] = [_timed(recipe, folder, results=True) for _ in range(runs)]
    figures["plain"] = scripts[-1]
    if search:
        figures["searched"] = _searched(recipe, folder)
    return figures


def _recipe(model: Path) -> dict[str, Any]:
    recipe = tomllib.loads((_DIGITS / "recipe.toml").read_text())
    recipe["source"]["path"] = str(model / "digits.keras")
    recipe["data"] = {name: str(model / f"{name}.npz") for name in recipe["data"]}
    return {**recipe, "variant": _VARIANTS}


def _timed(recipe: dict[str, Any], folder: Path, *, results: bool) -> float:
    """Seconds of a conversion in a process of its own, its start and imports included."""
    path = folder / "recipe.json"
    path.write_text(json.dumps(recipe))
    code = (
        "import json, sys\nfrom pathlib import Path\nfrom converter import convert\n"
        f"convert(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2], results={results})"
    )
    return _python("-c", code, str(path), str(folder / "package"))[0]


def _by_hand(model: Path, folder: Path) -> dict[str, Any]:
    out = folder / "by-hand"
    out.mkdir(exist_ok=True)
    arguments = [str(model / "digits.keras"), str(model), str(out)]
    seconds, printed = _python("-m", "benchmarks.rivals.by_hand", *arguments)
    figures: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return {**figures, "wall_s": seconds}


def _searched(recipe: dict[str, Any], folder: Path) -> dict[str, Any]:
    variants = [
        {"runtime": runtime, "precision": "auto", "candidates": ["int8", "fp32"]}
        for runtime in ("onnx", "tflite")
    ]
    begun = time.perf_counter()
    package = convert({**recipe, "variant": variants}, folder / "searched")
    return {"seconds": round(time.perf_counter() - begun, 1), "variants": _worth(package)}


def _worth(package: Package) -> list[dict[str, Any]]:
    return [
        {
            "id": variant.id,
            "precision": variant.precision,
            "bytes": variant.metrics.size_bytes,
            "accuracy": None if quality is None else round(quality.value_ppm / MILLION, 4),
            "n": None if quality is None else quality.n,
            "p50_us": None if variant.metrics.latency is None else variant.metrics.latency.p50_us,
            "status": variant.verification.status.value,
        }
        for variant in package.variants
        for quality in [variant.metrics.quality]
    ]


def _python(*arguments: str) -> tuple[float, str]:
    """Seconds a Python process took, and what it printed."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], check=True, cwd=_REPOSITORY, capture_output=True, text=True
    )
    return round(time.perf_counter() - begun, 2), done.stdout


def main() -> int:
    """Measure and write."""
    parser = command_line(__doc__, "converter")
    parser.add_argument("--runs", type=int, default=3, help="of each, in turns (default %(default)s)")
    parser.add_argument("--no-search", action="store_true", help="leave the search out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder).resolve(), runs=arguments.runs, search=not arguments.no_search)
    leave(figures, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
