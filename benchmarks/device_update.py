"""What an update costs a device: time from poll to live, memory, requests, and the first answer offline.

    python -m benchmarks.device_update [--megabytes 1 20 200] [--json FILE]

The agent runs in a process of its own, against a real server on loopback. Beside each update stands the
bare transfer in the same run: urllib3 to a file, hashed and flushed to disk, by a process that trusts
everything. Beside the first answer of a device that starts without a network stands bare ONNX Runtime.
The release is a small model with ballast beside it, so that the model itself costs the same at each size.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import command_line, leave
from tests.support.devices import complete, make_device, settle
from tests.support.fleet import TestServer, start_server
from tests.support.tiny import TinyRelease

_MEGABYTE = 1_000_000
_ROUNDS = 3
_STARTS = 7
_ABOVE_IDLE_LIMIT_MB = 80

_AGENT = """
import sys, time
from pathlib import Path
from device_sdk.agent import Agent
from device_sdk.config import read_config

def memory(key):
    for line in open("/proc/self/status"):
        if line.startswith(key):
            return int(line.split()[1]) / 1000

with Agent(read_config(Path(sys.argv[1]))) as agent:
    agent.poll()
    print(memory("VmRSS"), flush=True)
    sys.stdin.readline()
    with open("/proc/self/clear_refs", "w") as stream:
        stream.write("5")  # the peak begins anew
    began = time.perf_counter()
    said = agent.poll()
    took = time.perf_counter() - began
    if "live on trial" not in said:
        sys.exit(said)
    print(took, memory("VmHWM"), flush=True)
"""

_BARE = """
import hashlib, os, sys, time
import urllib3

url, path = sys.argv[1:]
pool = urllib3.PoolManager()
began = time.perf_counter()
digest = hashlib.sha256()
with pool.request("GET", url, preload_content=False) as response, open(path, "wb") as stream:
    for chunk in response.stream(65536):
        digest.update(chunk)
        stream.write(chunk)
    stream.flush()
    os.fsync(stream.fileno())
print(time.perf_counter() - began)
"""

_SELF_TEST = """
import sys, time
from pathlib import Path
from device_sdk.self_test import SelfTestLimits, self_test

began = time.perf_counter()
self_test(Path(sys.argv[1]), "onnx-fp32", threads=1, limits=SelfTestLimits())
print(time.perf_counter() - began)
"""

_OFFLINE = """
import sys
import numpy
from device_sdk import Ferry

with Ferry.from_config(sys.argv[1]) as ferry:
    answer = ferry.model("vision/digits").predict({"image": numpy.zeros((1, 8, 8, 1), numpy.uint8)})
    print(answer.answered_by, flush=True)
    import os
    os._exit(0)  # how long a process takes to end is another question
"""

_BARE_RUNTIME = """
import sys
import numpy, onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
session.run(["scores"], {"image": numpy.zeros((1, 8, 8, 1), numpy.uint8)})
print("live", flush=True)
import os
os._exit(0)
"""


def measure(folder: Path, megabytes: list[int]) -> dict[str, Any]:
    """Every figure."""
    server = start_server(folder / "server")
    try:
        server.publish(TinyRelease())
        complete(server, "1.0.0")
        updates = [
            _update(server, folder / f"{size}-mb", size, counter)
            for counter, size in enumerate(megabytes, start=2)
        ]
        polls = _unchanged_poll(server, folder / "unchanged")
    finally:
        server.stop()
    return {"updates": updates, "unchanged_poll": polls, "offline": _offline(folder / "unchanged" / "device")}


def _update(server: TestServer, folder: Path, megabytes: int, counter: int) -> dict[str, Any]:
    """Devices on 1.0.0, each taken to the same larger release, in turns with the bare transfer."""
    devices = [make_device(server, folder / f"device-{n}", f"d-{megabytes}-{n}") for n in range(_ROUNDS)]
    complete(server, "1.0.0")
    for device in devices:
        settle(device)
    tiny = TinyRelease(
        version=f"1.{counter}.0", counter=counter, seed=counter, padding_bytes=megabytes * _MEGABYTE
    )
    print(f"publishing {megabytes} MB …", file=sys.stderr)
    release = server.publish(tiny)
    ballast = max(release.files(), key=lambda file: file.length_bytes)
    url = f"{server.url}/blobs/sha256/{ballast.sha256[:2]}/{ballast.sha256}"
    took, peak, bare, tests = [], [], [], []
    agents = [_spawn(_AGENT, str(device.config_path)) for device in devices]
    idle = [float(_line(agent)) for agent in agents]
    complete(server, tiny.version)
    for device, agent in zip(devices, agents, strict=True):
        bare.append(float(_run(_BARE, url, str(folder / "bare"))))
        print("go", file=agent.stdin, flush=True)
        seconds, most = map(float, _line(agent).split())
        agent.wait()
        took.append(seconds)
        peak.append(most)
        (release_folder,) = device.slots.root.glob(f"releases/{tiny.version}-*")
        tests.append(float(_run(_SELF_TEST, str(release_folder))))
    return {
        "megabytes": megabytes,
        "poll_to_live_s": _median(took),
        "of_which_self_test_s": _median(tests),
        "bare_transfer_s": _median(bare),
        "ratio_without_self_test": round((_median(took) - _median(tests)) / _median(bare), 2),
        "agent_idle_mb": round(max(idle), 1),
        "agent_peak_mb": round(max(peak), 1),
        "above_idle_mb": round(max(b - a for a, b in zip(idle, peak, strict=True)), 1),
        "above_idle_limit_mb": _ABOVE_IDLE_LIMIT_MB,
        "rounds": _ROUNDS,
    }


def _unchanged_poll(server: TestServer, folder: Path) -> dict[str, int]:
    device = make_device(server, folder / "device", "unchanged")
    settle(device)
    with device.agent() as agent:
        agent.poll()
        before = server.traffic()
        agent.poll()
        after = server.traffic()
    return {
        "requests": after.requests - before.requests,
        "body_bytes": after.body_bytes - before.body_bytes,
        "not_modified": after.not_modified - before.not_modified,
    }


def _offline(folder: Path) -> dict[str, Any]:
    """The server is gone by now."""
    model = next((folder / "store").glob("models/*/*/releases/*/variants/onnx-fp32/model.onnx"))
    ours, bare = [], []
    for _ in range(_STARTS):
        ours.append(_seconds(_OFFLINE, str(folder / "device.toml")))
        bare.append(_seconds(_BARE_RUNTIME, str(model)))
    return {
        "start_to_first_prediction_s": _median(ours),
        "bare_runtime_s": _median(bare),
        "ratio": round(_median(ours) / _median(bare), 2),
        "starts": _STARTS,
    }


def _spawn(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _line(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise RuntimeError(f"the agent ended with {process.wait()}")
    return line


def _run(code: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    ).stdout


def _seconds(code: str, *arguments: str) -> float:
    began = time.perf_counter()
    said = _run(code, *arguments)
    if said.strip() != "live":
        raise RuntimeError(f"answered by {said.strip()!r}")
    return time.perf_counter() - began


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def main() -> int:
    """Measure and write; 1 where memory went over its bound or an unchanged poll cost a body."""
    parser = command_line(__doc__, "device_update")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 20, 200], help="sizes of blobs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), arguments.megabytes)
    leave(figures, arguments.json)
    within = all(update["above_idle_mb"] <= _ABOVE_IDLE_LIMIT_MB for update in figures["updates"])
    silent = figures["unchanged_poll"] == {"requests": 1, "body_bytes": 0, "not_modified": 1}
    return 0 if within and silent else 1


if __name__ == "__main__":
    sys.exit(main())
