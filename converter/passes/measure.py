"""Times one variant and takes its memory, in a process that has done nothing else."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

from converter.intervals import percentile
from converter.jobs import Job
from edge_runtime.arrays import from_array
from edge_runtime.loading import load
from edge_runtime.package import read_manifest
from ota_contract.golden import parse_golden

__all__ = ["CODE_VERSION", "THREADS", "run"]

CODE_VERSION = 1
"""Part of a measurement's key: raise it whenever this module would measure otherwise."""
THREADS = 1

_WARM_UP = 50
_RUNS = 1000
_MOST_S = 10.0
_KIBIBYTE = 1024


def run(job: Job) -> Mapping[str, Any]:
    """The facts are latency percentiles in microseconds, runs, and the greatest resident memory."""
    package = job.inputs["package"]
    release, _ = read_manifest(package)
    vector = parse_golden((package / release.golden.file.path).read_bytes())[0]
    inputs = {name: from_array(array) for name, array in vector.tensors.items()}
    model = load(release, release.variant(job.params["variant"]), package, threads=THREADS)
    for _ in range(_WARM_UP):
        model.run(inputs)
    times_ns: list[int] = []
    deadline = time.monotonic() + _MOST_S
    while len(times_ns) < _RUNS and (not times_ns or time.monotonic() < deadline):
        before = time.perf_counter_ns()
        model.run(inputs)
        times_ns.append(time.perf_counter_ns() - before)
    times_ns.sort()
    return {
        "p50_us": max(1, round(percentile(times_ns, 0.5) / 1000)),
        "p99_us": max(1, round(percentile(times_ns, 0.99) / 1000)),
        "runs": len(times_ns),
        "resident_bytes": _peak_resident_bytes(),
    }


def _peak_resident_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * _KIBIBYTE
