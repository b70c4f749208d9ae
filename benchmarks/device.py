"""What the device SDK costs an app: import, and `predict` over the bare runtime.

    python -m benchmarks.device [--json FILE]

Each figure stands beside its rival, measured in the same run in turns, because machines are noisy: the
import beside an interpreter that imports nothing, `predict` beside ONNX Runtime's own `run`. What updates and
polls cost is measured by `benchmarks.device_update`.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime

from benchmarks.figures import command_line, leave
from device_sdk.agent import Agent
from device_sdk.config import read_config
from device_sdk.ferry import Ferry
from tests.support.fleet import start_server
from tests.support.tiny import TinyRelease, image

_STARTS = 15
_ROUNDS = 30
_CALLS = 500


def measure(folder: Path) -> dict[str, Any]:
    """Every figure."""
    server = start_server(folder / "server")
    try:
        server.publish(TinyRelease())
        server.roll_out("1.0.0")
        config = server.device_toml(folder / "device")
        with Agent(read_config(config)) as agent:
            agent.poll()
        return {"import": _import(), "predict": _predict(config)}
    finally:
        server.stop()


def _import() -> dict[str, float]:
    starts = {"nothing": "pass", "package": "import device_sdk", "agent": "from device_sdk import Ferry"}
    times: dict[str, list[float]] = {name: [] for name in starts}
    for _ in range(_STARTS):
        for name, code in starts.items():
            times[name].append(_start(code))
    bare = _median(times["nothing"])
    return {
        "bare_interpreter_ms": bare,
        "import_device_sdk_ms": round(_median(times["package"]) - bare, 1),
        "import_ferry_ms": round(_median(times["agent"]) - bare, 1),
        "runs": _STARTS,
    }


def _predict(config: Path) -> dict[str, float]:
    pixels = image()
    with Ferry.from_config(config, start_agent=False) as ferry:
        model = ferry.model("vision/digits")
        path = next((config.parent / "store").glob("models/*/*/releases/*/variants/onnx-fp32/model.onnx"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        bare, ours = [], []
        for _ in range(_ROUNDS):
            bare.append(_per_call_us(lambda: session.run(["scores"], {"image": pixels})))
            ours.append(_per_call_us(lambda: model.predict({"image": pixels})))
    overheads = [mine - theirs for mine, theirs in zip(ours, bare, strict=True)]
    return {
        "bare_us": _median(bare),
        "predict_us": _median(ours),
        "overhead_us": _median(overheads),
        "calls": _ROUNDS * _CALLS,
    }


def _start(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - began) * 1e3


def _per_call_us(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(_CALLS):
        call()
    return (time.perf_counter() - began) * 1e6 / _CALLS


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 1)


def main() -> int:
    """Measure and write."""
    arguments = command_line(__doc__, "device").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    leave(figures, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
