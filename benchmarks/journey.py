"""How long the whole demonstration takes, step by step; its bound is four minutes on two cores.

    python -m benchmarks.journey [--json FILE] [--devices N]

There is no rival to stand beside: the processors' count and load are written with the figure instead.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import command_line, leave

_ROOT = Path(__file__).resolve().parents[1]
_STEP = re.compile(r"^ *\d+  (.+)$")
_DONE = re.compile(r"^ +done in ([\d.]+) s$")


def measure(devices: int) -> dict[str, Any]:
    """Run it in an empty folder; returns its seconds in all and by step.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    load = os.getloadavg()[0]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "demo", "--devices", str(devices)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return {
        "devices": devices,
        "seconds": round(time.monotonic() - began, 1),
        "bound_seconds": 240,
        "steps": _steps(done.stdout),
        "cpus": os.cpu_count(),
        "load_before": round(load, 2),
    }


def _steps(output: str) -> dict[str, float]:
    steps: dict[str, float] = {}
    title = ""
    for line in output.splitlines():
        if match := _STEP.match(line):
            title = match[1].strip()
        elif match := _DONE.match(line):
            steps[title] = float(match[1])
    return steps


def main() -> int:
    """Measure and write."""
    parser = command_line(__doc__, "journey")
    parser.add_argument("--devices", type=int, default=53, help="default %(default)s")
    arguments = parser.parse_args()
    figures = measure(arguments.devices)
    leave(figures, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
