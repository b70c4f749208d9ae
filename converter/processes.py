"""Runs the process of a pass under a limit of time and memory.

Memory is watched, not limited by the kernel: an address-space limit counts what TensorFlow reserves
and never touches, and the out-of-memory killer might choose somebody else. All processes a pass starts count
together.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from converter.errors import PassError, Reason
from converter.jobs import Answer, Job, Point, read_answer, read_point, write_job
from converter.pass_process import ENVIRONMENT
from converter.process_groups import group_resident_bytes, resident_bytes
from converter.recipe import Limits

__all__ = ["job_environment", "keep_log", "run_job"]

_POLL_S = 0.05
_LOOK_S = 0.5
"""How often all processes of the system are looked through for the pass's."""
_ROOT = Path(__file__).resolve().parent.parent
_MEBIBYTE = 2**20
_TOLD = (Reason.SOURCE, Reason.NOT_FINITE, Reason.CANCELLED)
"""Failures whose message says it all: a tool's log would add noise."""


def job_environment() -> dict[str, str]:
    """The environment variables a pass inherits, and those it is given."""
    ours = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(ours)}


def run_job(
    job: Job,
    *,
    limits: Limits,
    cancelled: threading.Event,
    told: Callable[[Point], None] = lambda point: None,  # noqa: ARG005 - nobody listens
) -> Answer:
    """Run a job to its end in a process of its own.

    Args:
        job: What to do; its folder must not exist.
        limits: Past them the process is killed, with what it started.
        cancelled: Set by another thread to end the process.
        told: Called whenever the pass says how far it is.

    Raises:
        PassError: It failed. Its process is gone; `log` is in the job's folder.
    """
    write_job(job)
    scratch = job.folder / "tmp"  # what tools leave in the temporary folder goes with the job's
    scratch.mkdir()
    with job.log.open("wb") as log:
        # A session of its own: Ctrl-C reaches us alone, and we end the process and what it started.
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", "converter.pass_process", str(job.folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=job.folder,
            env={**job_environment(), "TMPDIR": str(scratch)},
            start_new_session=True,
        )
    try:
        failure = _watch(process, job, limits, cancelled, told)
    finally:
        _end(process)
    if failure is not None:
        raise _error(job, *failure)
    answer = read_answer(job.folder)
    if answer is None:
        raise _error(job, Reason.CRASHED, _death(process.returncode))
    if answer.reason is not None:
        raise _error(job, answer.reason, answer.message, answer.fault)
    return answer


def keep_log(error: PassError) -> PassError:
    """The same error with its log where the end of the conversion does not remove it."""
    if error.log is None:
        return error
    handle, name = tempfile.mkstemp(prefix=f"ferry-{error.pass_name}-", suffix=".log")
    os.close(handle)
    kept = Path(name)
    shutil.copyfile(error.log, kept)
    return PassError(error.pass_name, error.reason, error.message, fault=error.fault, log=kept)


def _watch(
    process: subprocess.Popen[bytes],
    job: Job,
    limits: Limits,
    cancelled: threading.Event,
    told: Callable[[Point], None],
) -> tuple[Reason, str] | None:
    """Wait for the process; returns why it must be ended, if it must."""
    deadline = time.monotonic() + limits.timeout_s
    look, last = time.monotonic() + _LOOK_S, None
    while process.poll() is None:
        if cancelled.is_set():
            return Reason.CANCELLED, "another pass failed or Ctrl-C was pressed"
        now = time.monotonic()
        if now > deadline:
            return Reason.TIMEOUT, f"still running after {limits.timeout_s:g} s; raise limits.timeout_s"
        resident = resident_bytes(process.pid)
        if now > look:
            resident = max(resident, group_resident_bytes(process.pid))
            look = now + _LOOK_S
        if resident > limits.memory_bytes:
            return Reason.MEMORY, (
                f"took {resident // _MEBIBYTE} MB of memory, at most {limits.memory_bytes // _MEBIBYTE} "
                "are allowed; raise limits.memory_mb"
            )
        point = read_point(job.folder)
        if point is not None and point != last:
            told(point)
            last = point
        time.sleep(_POLL_S)
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # also what the process itself may have started
    process.wait()


def _death(code: int) -> str:
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with {code} and no answer"


def _error(job: Job, reason: Reason, message: str, fault: str = "") -> PassError:
    told = reason in _TOLD or not job.log.is_file() or not job.log.stat().st_size
    return PassError(job.name, reason, message, fault=fault, log=None if told else job.log)
