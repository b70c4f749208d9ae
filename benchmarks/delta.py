"""What a delta saves on a retrained model, and what applying it costs, beside its rivals.

    python -m benchmarks.delta [--json FILE]

The digits model is trained, then trained on in three ways, and every version converted. Between the first
and each other, per runtime and precision: the length of the file, of the file compressed (lzma), of a bsdiff
and of a delta. Applying is measured on files of 64 MB of the same kind, in a process of its own.

Takes some minutes, most of them training and converting.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import bsdiff4
import numpy as np

from benchmarks.figures import command_line, leave
from converter.deltas.making import make_delta
from edge_runtime.package import open_package
from ota_contract.delta import apply_delta
from ota_contract.manifest import FileRole, Release

_REPOSITORY = Path(__file__).resolve().parents[1]
_DIGITS = _REPOSITORY / "models" / "digits"
_WAYS = {
    "one epoch more": ("1e-4", "all"),
    "the last two layers, one epoch": ("1e-3", "head"),
}
"""Ways to train on: learning rate and layers."""
_ANEW = "from the start, nine epochs for eight"
_APPLY_BYTES = 64 * 1024 * 1024
_RUNS = 3

_TRAIN_ON = """
import os, sys
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
sys.path.insert(0, {digits!r})
from pathlib import Path
import keras, tensorflow, train
keras.utils.set_random_seed(2)
tensorflow.config.experimental.enable_op_determinism()
model = keras.models.load_model({source!r})
for layer in model.layers:
    layer.trainable = {layers!r} == "all" or layer.name in ("mix", "scores")
model.compile(optimizer=keras.optimizers.Adam({rate}), loss="sparse_categorical_crossentropy")
splits = train.split_scans()
model.fit(*train.augmented(*splits["train"]), batch_size=64, epochs=1, verbose=0)
trained = train.build(gain_table=False)
trained.set_weights(model.get_weights())
train.write(Path({out!r}), trained, splits)
"""

_APPLY = """
import json, os, re, sys, time
from pathlib import Path
from ota_contract.delta import apply_delta
folder = Path(sys.argv[1])
def peak_mb():  # not getrusage, which remembers what this process was before it became Python
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
idle, begun = peak_mb(), time.perf_counter()
with (
    (folder / "base").open("rb") as base,
    (folder / "delta").open("rb") as delta,
    (folder / "made").open("wb") as out,
):
    apply_delta(base, delta, out, max_bytes=1 << 40)
    out.flush()
    os.fsync(out.fileno())
print(json.dumps({"seconds": time.perf_counter() - begun, "peak_mb": peak_mb() - idle}))
"""


def measure(folder: Path) -> dict[str, Any]:
    """Every figure."""
    first = _trained(folder / "first", "--epochs", "8")
    models = {way: _trained_on(first, folder / layers, rate, layers) for way, (rate, layers) in _WAYS.items()}
    models[_ANEW] = _trained(folder / "anew", "--epochs", "9")
    base = _converted(first, 1)
    sizes = {
        way: _compare(base, _converted(model, number))
        for number, (way, model) in enumerate(models.items(), 2)
    }
    return {"retrained": sizes, "apply": _apply(folder)}


def _compare(old: Path, new: Path) -> list[dict[str, Any]]:
    rows = []
    before, _ = open_package(old)
    after, _ = open_package(new)
    for what, path in _largest_files(after):
        if path in dict(_largest_files(before)).values():
            rows.append({"what": what, **_sizes((old / path).read_bytes(), (new / path).read_bytes())})
    return rows


def _largest_files(release: Release) -> list[tuple[str, str]]:
    """The file that holds the weights, of each variant."""
    return [
        (variant.id, max(variant.files, key=lambda file: file.length_bytes).path)
        for variant in release.variants
        if any(file.role is FileRole.MODEL for file in variant.files)
    ]


def _sizes(base: bytes, target: bytes) -> dict[str, Any]:
    begun = time.perf_counter()
    delta = make_delta(base, target)
    seconds = time.perf_counter() - begun
    out = io.BytesIO()
    apply_delta(io.BytesIO(base), io.BytesIO(delta), out, max_bytes=len(target))
    if out.getvalue() != target:
        raise RuntimeError("a delta makes another file")
    return {
        "full_bytes": len(target),
        "lzma_bytes": len(lzma.compress(target, preset=9 | lzma.PRESET_EXTREME)),
        "bsdiff_bytes": len(bsdiff4.diff(base, target)),
        "bytes_only_delta_bytes": len(make_delta(base, target, knows_models=False)),
        "delta_bytes": len(delta),
        "share_of_full": round(len(delta) / len(target), 3),
        "make_s": round(seconds, 2),
    }


def _apply(folder: Path) -> list[dict[str, Any]]:
    """Speed and memory of applying, each kind in a process that imports the contract alone."""
    random = np.random.default_rng(1)
    weights = random.normal(0, 0.1, _APPLY_BYTES // 4).astype("<f4")
    moved = (weights * (1 + random.normal(0, 1e-3, len(weights)).astype(np.float32))).astype("<f4")
    steps = random.integers(-128, 128, _APPLY_BYTES, dtype=np.int8)
    nudged = steps + (random.random(_APPLY_BYTES) < 0.1).astype(np.int8)  # noqa: PLR2004 - a weight in ten
    head = weights.copy()
    head[-len(head) // 20 :] = moved[-len(head) // 20 :]
    kinds = {
        "fp32, every weight moved": (weights, moved),
        "int8, a weight in ten moved": (steps, nudged),
        "fp32, a twentieth of the weights moved": (weights, head),
    }
    rows = []
    for what, (old, new) in kinds.items():
        (folder / "base").write_bytes(old.tobytes())
        (folder / "delta").write_bytes(make_delta(old.tobytes(), new.tobytes()))
        runs = [_applied(folder) for _ in range(_RUNS)]
        seconds = statistics.median(run["seconds"] for run in runs)
        rows.append(
            {
                "what": what,
                "target_bytes": _APPLY_BYTES,
                "delta_bytes": (folder / "delta").stat().st_size,
                "apply_mb_per_s": round(_APPLY_BYTES / seconds / 1e6, 1),
                "memory_above_idle_mb": round(max(run["peak_mb"] for run in runs), 1),
            }
        )
    return rows


def _applied(folder: Path) -> dict[str, float]:
    command = [sys.executable, "-c", _APPLY, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=_REPOSITORY)
    values: dict[str, float] = json.loads(done.stdout)
    return values


def _trained(out: Path, *arguments: str) -> Path:
    _python(str(_DIGITS / "train.py"), "--out", str(out), *arguments)
    return out


def _trained_on(source: Path, out: Path, rate: str, layers: str) -> Path:
    _python(
        "-c",
        _TRAIN_ON.format(
            digits=str(_DIGITS), source=str(source / "digits.keras"), layers=layers, rate=rate, out=str(out)
        ),
    )
    return out


def _converted(model: Path, number: int) -> Path:
    package = model.with_name(f"{model.name}-package")
    _python(
        "-m", "ferry_cli", "convert", str(_DIGITS / "recipe.toml"), "-o", str(package),
        "--source", str(model / "digits.keras"), "--data", str(model),
        "--version", f"1.{number}.0", "--counter", str(number),
    )  # fmt: skip
    return package


def _python(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, *arguments], check=True, cwd=_REPOSITORY, env=os.environ, capture_output=True
    )


def main() -> int:
    """Measure and write."""
    arguments = command_line(__doc__, "delta").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    leave(figures, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
