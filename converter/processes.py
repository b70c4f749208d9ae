"""Runs the process of a pass under a limit of time and memory.

Memory is watched, not limited by the kernel: an address-space limit counts what TensorFlow reserves
and never touches, and the out-of-memory killer might choose somebody else.
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
from pathlib import Path

from converter.errors import PassError, Reason
from converter.jobs import Answer, Job, read_answer, write_job
from converter.pass_process import ENVIRONMENT
from converter.recipe import Limits

__all__ = ["keep_log", "run_job"]

_POLL_S = 0.05
_ROOT = Path(__file__).resolve().parent.parent
_MEBIBYTE = 2**20
_TOLD = (Reason.SOURCE, Reason.NOT_FINITE, Reason.CANCELLED)
"""Failures whose message says it all: a tool's log would add noise."""


def run_job(job: Job, *, limits: Limits, cancelled: threading.Event) -> Answer:
    """Run a job to its end in a process of its own.

    Args:
        job: What to do; its folder must not exist.
        limits: Past them the process is killed.
        cancelled: Set by another thread to end the process.

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
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(_ROOT), "TMPDIR": str(scratch)},
            start_new_session=True,
        )
    try:
        failure = _watch(process, limits, cancelled)
    finally:
        _end(process)
    if failure is not None:
        raise _error(job, *failure)
    answer = read_answer(job.folder)
    if answer is None:
        raise _error(job, Reason.CRASHED, _death(process.returncode))
    if answer.reason is not None:
        raise _error(job, answer.reason, answer.message)
    return answer


def keep_log(error: PassError) -> PassError:
    """The same error with its log where the end of the conversion does not remove it."""
    if error.log is None:
        return error
    handle, name = tempfile.mkstemp(prefix=f"ferry-{error.pass_name}-", suffix=".log")
    os.close(handle)
    kept = Path(name)
    shutil.copyfile(error.log, kept)
    return PassError(error.pass_name, error.reason, error.message, log=kept)


def _watch(
    process: subprocess.Popen[bytes], limits: Limits, cancelled: threading.Event
) -> tuple[Reason, str] | None:
    """Wait for the process; returns why it must be ended, if it must."""
    deadline = time.monotonic() + limits.timeout_s
    while process.poll() is None:
        if cancelled.is_set():
            return Reason.CANCELLED, "another pass failed or Ctrl-C was pressed"
        if time.monotonic() > deadline:
            return Reason.TIMEOUT, f"still running after {limits.timeout_s:g} s; raise limits.timeout_s"
        resident = _resident_bytes(process.pid)
        if resident > limits.memory_bytes:
            return Reason.MEMORY, (
                f"took {resident // _MEBIBYTE} MB of memory, at most {limits.memory_bytes // _MEBIBYTE} "
                "are allowed; raise limits.memory_mb"
            )
        time.sleep(_POLL_S)
    return None


def _resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 where the system does not tell (then only time is capped)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


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


def _error(job: Job, reason: Reason, message: str) -> PassError:
    told = reason in _TOLD or not job.log.is_file() or not job.log.stat().st_size
    return PassError(job.name, reason, message, log=None if told else job.log)
