"""Runs a staged release's golden vectors in a process of its own, with limits.

A model that crashes, hangs or eats memory takes that process with it and nothing else. `self_test` is
called by the agent; `python -m device_sdk.self_test` is the child.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from device_sdk.errors import SelfTestError

__all__ = ["SelfTestLimits", "self_test"]

_SIMULTANEOUS = threading.BoundedSemaphore(os.cpu_count() or 1)
"""Several devices may share a process (a gateway, a simulation); their tests must not starve it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTestLimits:
    """What the child may use."""

    seconds: float = 120.0
    memory_bytes: int = 8 * 2**30
    """Address space; runtimes reserve far more than they touch."""


def self_test(folder: Path, variant_id: str, *, threads: int, limits: SelfTestLimits) -> int:
    """Check a release folder's variant against its golden vectors; returns how many passed.

    Raises:
        SelfTestError: It crashed, hung, ran out of memory, or answered wrongly.
    """
    command = [
        sys.executable,
        "-m",
        "device_sdk.self_test",
        str(folder),
        variant_id,
        str(threads),
        str(limits.memory_bytes),
    ]
    with _SIMULTANEOUS:
        try:
            done = subprocess.run(  # noqa: S603 - our own module, no shell
                command, capture_output=True, timeout=limits.seconds, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as error:
            raise SelfTestError(f"the self-test did not end within {limits.seconds:g} s") from error
        except OSError as error:
            raise SelfTestError(f"the self-test could not be started: {error}") from error
    if done.returncode < 0:
        raise SelfTestError(f"the model ended its process by signal {-done.returncode}")
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise SelfTestError(f"the self-test ended with {done.returncode} and no result") from error
    passed = answer.get("passed") if isinstance(answer, dict) else None
    if not isinstance(passed, int):
        error_text = answer.get("error") if isinstance(answer, dict) else None
        raise SelfTestError(str(error_text or "the self-test gave no result")[:300])
    return passed


def _child(argv: list[str]) -> int:
    folder, variant_id, threads, memory_bytes = Path(argv[0]), argv[1], int(argv[2]), int(argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    from edge_runtime.golden_check import check_golden  # noqa: PLC0415 - inside the limits
    from edge_runtime.loading import load  # noqa: PLC0415
    from ota_contract.errors import FerryError  # noqa: PLC0415
    from ota_contract.manifest import MANIFEST_NAME, parse_release  # noqa: PLC0415

    try:
        release = parse_release((folder / MANIFEST_NAME).read_bytes())
        variant = release.variant(variant_id)
        model = load(release, variant, folder, threads=threads)
        golden = (folder / release.golden.file.path).read_bytes()
        answer: dict[str, object] = {"passed": check_golden(model, release, variant, golden)}
    except (FerryError, OSError) as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": f"the model needs more than {memory_bytes} bytes"}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    # Skip the runtimes' own teardown: it can take longer than the test.
    os._exit(0 if "passed" in answer else 1)


if __name__ == "__main__":
    sys.exit(_child(sys.argv[1:]))
