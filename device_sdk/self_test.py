"""Runs a staged release's golden vectors in a process of its own, with limits.

A model that crashes, hangs, prints without end or eats memory takes that process with it and nothing else.
The process is `device_sdk.self_test_child`; it ends with the agent, however that ends.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from device_sdk.errors import InterruptedUpdateError, SelfTestError

__all__ = ["SelfTestLimits", "limits_for", "self_test"]

_START = (
    "import runpy, sys; sys.path.append(sys.argv.pop(1)); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
"""Not `-m` alone, by which Python would look for every module in the folder the agent was started in, first.
What an app carries beside its own code, uninstalled, is found by the path given."""
_SIMULTANEOUS = threading.BoundedSemaphore(os.cpu_count() or 1)
"""Several devices may share a process (a gateway, a simulation); their tests must not starve it."""
_LOOK_S = 0.05
"""How often the child and the agent's end are looked at."""
_MAX_ANSWER_BYTES = 4096
_SENT_FROM_OUTSIDE = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_BASE_BYTES = 256 * 2**20
_UNSTATED_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTestLimits:
    """What the child may use."""

    seconds: float = 120.0
    cpu_seconds: int = 0
    """Of all its threads together; 0 for `seconds` on each thread it is given."""
    memory_bytes: int = _UNSTATED_BYTES
    """Private memory, touched or not; mapped files and libraries are not counted."""


def limits_for(required_bytes: int, device_bytes: int) -> SelfTestLimits:
    """The limits for a variant on a device.

    What the publisher measured was a process that ran the variant. Twice that allows for other kernels and
    another allocator on this device's CPU; the base is the interpreter and the runtime, of which 120 MB are
    reserved before any model is opened. In no case more than the device has: past that the kernel would
    have to choose between this process and the app whose model works.

    Args:
        required_bytes: What the variant's manifest says it needs; 0 where it does not say.
        device_bytes: The device's memory; 0 where it is not known.
    """
    unstated = device_bytes // 2 or _UNSTATED_BYTES
    wanted = _BASE_BYTES + 2 * required_bytes if required_bytes else unstated
    return SelfTestLimits(memory_bytes=max(_BASE_BYTES, min(wanted, device_bytes or wanted)))


def self_test(
    folder: Path,
    variant_id: str,
    *,
    threads: int,
    limits: SelfTestLimits,
    ending: threading.Event | None = None,
) -> int:
    """Check a release folder's variant against its golden vectors; returns how many passed.

    Args:
        folder: The release folder.
        variant_id: Which variant.
        threads: Threads one inference may use.
        limits: What the child may use.
        ending: Set by the agent when it ends: the child is ended, too.

    Raises:
        SelfTestError: It crashed, hung, ran out of memory, or answered wrongly.
        InterruptedUpdateError: It was ended before it could tell; that says nothing about the release.
    """
    ending = ending or threading.Event()
    with _turn(ending), _started(_command(folder, variant_id, threads, limits), threads) as process:
        output = _watch(process, limits, ending)
        return _passed(process.returncode, output, limits)


def _command(folder: Path, variant_id: str, threads: int, limits: SelfTestLimits) -> list[str]:
    cpu_s = limits.cpu_seconds or max(1, threads) * int(limits.seconds + 1)
    words = (folder, variant_id, threads, limits.memory_bytes, cpu_s, os.getpid())
    packages = Path(__file__).resolve().parents[1]
    return [sys.executable, "-P", "-c", _START, str(packages), "device_sdk.self_test_child", *map(str, words)]


@contextmanager
def _turn(ending: threading.Event) -> Iterator[None]:
    while not _SIMULTANEOUS.acquire(timeout=_LOOK_S):
        if ending.is_set():
            raise _interrupted()
    try:
        yield
    finally:
        _SIMULTANEOUS.release()


@contextmanager
def _started(command: list[str], threads: int) -> Iterator[subprocess.Popen[bytes]]:
    """The child, ended and reaped at the end of the block."""
    count = str(max(1, threads))  # numpy's own pools would else start a thread, and its stack, per core
    environment = {**os.environ, "OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
    try:
        process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            command,
            stdin=subprocess.PIPE,  # never written to: it closes with this process, and tells the child so
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # a Ctrl-C at the agent's terminal is the agent's to answer
        )
    except OSError as error:
        raise SelfTestError(f"the self-test could not be started: {error}") from error
    with process:
        try:
            yield process
        finally:
            process.kill()


def _watch(process: subprocess.Popen[bytes], limits: SelfTestLimits, ending: threading.Event) -> bytes:
    """Wait for the child's end within the limits; returns what it answered."""
    if process.stdout is None:
        raise SelfTestError("the self-test has no way to answer")
    ends_at = time.monotonic() + limits.seconds
    pipe = process.stdout.fileno()
    os.set_blocking(pipe, False)
    output, is_open = b"", True
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            has_ended = process.poll() is not None  # before the reading: by then all it wrote is there
            chunk = _read(pipe) if is_open else None
            output += chunk or b""
            if len(output) > _MAX_ANSWER_BYTES:
                raise SelfTestError("the self-test answered without end")
            if has_ended:
                return output
            if ending.is_set():
                raise _interrupted()
            if time.monotonic() >= ends_at:
                raise SelfTestError(f"the self-test did not end within {limits.seconds:g} s")
            if chunk == b"":
                is_open = False
                selector.unregister(pipe)
            selector.select(_LOOK_S)


def _read(pipe: int) -> bytes | None:
    """What is there; empty at the end, None while there is nothing."""
    try:
        return os.read(pipe, _MAX_ANSWER_BYTES + 1)
    except BlockingIOError:
        return None


def _passed(code: int, output: bytes, limits: SelfTestLimits) -> int:
    if code < 0:
        _blame(-code, limits)
    try:
        answer = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise SelfTestError(f"the self-test ended with {code} and no result") from error
    passed = answer.get("passed") if isinstance(answer, dict) else None
    if not isinstance(passed, int):
        text = answer.get("error") if isinstance(answer, dict) else None
        raise SelfTestError(str(text or "the self-test gave no result")[:300])
    return passed


def _blame(number: int, limits: SelfTestLimits) -> None:
    """Say whose doing a signal was."""
    if number in _SENT_FROM_OUTSIDE:
        raise _interrupted()  # a service manager ends all processes of a service at once
    if number == signal.SIGXCPU:
        raise SelfTestError("the self-test used up its processor time")
    hint = f" (out of memory? it may use {limits.memory_bytes} bytes)" if number == signal.SIGKILL else ""
    raise SelfTestError(f"the model ended its process by signal {number}{hint}")


def _interrupted() -> InterruptedUpdateError:
    return InterruptedUpdateError("the self-test was interrupted; it is made again")
