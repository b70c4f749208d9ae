"""The process of a self-test: `python -m device_sdk.self_test_child`, started by `device_sdk.self_test`.

It takes its limits upon itself before it imports a runtime, answers one line of JSON, and dies with its
parent: by the kernel's hand where it can, else when its standard input closes.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path

__all__: list[str] = []

_PR_SET_PDEATHSIG = 1
_RESERVE_BYTES = 4 * 2**30
"""Address ranges that runtimes reserve and never touch, libraries, and the model's mapped file."""


def _die_with(parent: int) -> None:
    """Have this process killed when its parent ends, also in the middle of a model that never returns."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we could ask to be told
        os._exit(1)
    threading.Thread(target=_await_end_of_input, daemon=True).start()


def _await_end_of_input() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(1)


def _limit(memory_bytes: int, cpu_s: int) -> None:
    """Bound memory and processor time, and step back behind the app whose model works."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    # Private writable memory: what a model eats. Address space would also count what is only reserved.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    if sys.maxsize > 2**32:
        most = memory_bytes + _RESERVE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with contextlib.suppress(OSError):
        os.nice(10)
    with contextlib.suppress(OSError):  # where memory runs out all the same, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000")


def _answer_pipe() -> int:
    """The way to the parent; whatever the runtime prints from now on goes nowhere."""
    pipe = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return pipe


def _check(folder: Path, variant_id: str, threads: int, memory_bytes: int) -> dict[str, object]:
    from edge_runtime.golden_check import check_golden  # noqa: PLC0415 - inside the limits
    from edge_runtime.loading import load  # noqa: PLC0415
    from ota_contract.errors import FerryError  # noqa: PLC0415
    from ota_contract.manifest import MANIFEST_NAME, parse_release  # noqa: PLC0415

    try:
        release = parse_release((folder / MANIFEST_NAME).read_bytes())
        variant = release.variant(variant_id)
        model = load(release, variant, folder, threads=threads)
        golden = (folder / release.golden.file.path).read_bytes()
        return {"passed": check_golden(model, release, variant, golden, folder=folder)}
    except (FerryError, OSError) as error:
        return {"error": str(error)[:300]}
    except MemoryError:
        return {"error": f"the model needs more than {memory_bytes} bytes"}


def _main(argv: list[str]) -> None:
    folder, variant_id = Path(argv[0]), argv[1]
    threads, memory_bytes, cpu_s, parent = map(int, argv[2:])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # sent to a whole service at once; the parent decides
    _die_with(parent)
    pipe = _answer_pipe()
    _limit(memory_bytes, cpu_s)
    answer = _check(folder, variant_id, threads, memory_bytes)
    os.write(pipe, json.dumps(answer).encode() + b"\n")
    # Skip the runtimes' own teardown: it can take longer than the test.
    os._exit(0 if "passed" in answer else 1)


if __name__ == "__main__":
    _main(sys.argv[1:])
