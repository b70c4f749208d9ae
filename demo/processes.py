"""The child processes of the demonstration: none of them outlives it unless told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from demo.errors import StepError

__all__ = ["Children", "Speaker", "stop_groups"]

_GRACE_S = 10.0


class Speaker:
    """A long-running child that prints JSON lines, and may be told some."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        """Wrap a started process with pipes on stdin and stdout."""
        self.name = name
        self.process = process

    def listen(self) -> Mapping[str, Any]:
        """The next line it prints.

        Raises:
            StepError: It ended instead, or printed something else.
        """
        line = _pipe(self.process.stdout).readline()
        try:
            answer: Mapping[str, Any] = json.loads(line)
        except ValueError as error:
            raise StepError(f"{self.name} ended or said {line.strip()!r}; see its log") from error
        return answer

    def ask(self, **question: Any) -> Mapping[str, Any]:  # noqa: ANN401 - JSON
        """Send one line and wait for the answer."""
        self.tell(**question)
        return self.listen()

    def tell(self, **message: Any) -> None:  # noqa: ANN401 - JSON
        """Send one line that has no answer."""
        try:
            stream = _pipe(self.process.stdin)
            stream.write(json.dumps(message) + "\n")
            stream.flush()
        except OSError as error:
            raise StepError(f"{self.name} has ended; see its log") from error


class Children:
    """Starts commands in sessions of their own, so that Ctrl-C reaches only the one who cleans up."""

    def __init__(self, logs: Path, environment: Mapping[str, str]) -> None:
        """Write each child's stderr below `logs`."""
        self._logs = logs
        self._environment = {**os.environ, **environment}
        self._running: dict[int, subprocess.Popen[str]] = {}
        self._stopping = False
        self._lock = threading.Lock()

    @property
    def pids(self) -> list[int]:
        """The children alive."""
        with self._lock:
            return [pid for pid, process in self._running.items() if process.poll() is None]

    def run(self, name: str, *command: str | Path, typed: str = "") -> str:
        """Run a command to its end, giving it `typed` on stdin; returns what it printed.

        Raises:
            StepError: It failed; the message is the last line it wrote to stderr.
        """
        process = self._start(name, command)
        output, _ = process.communicate(typed)
        with self._lock:
            self._running.pop(process.pid, None)
        if process.returncode != 0:
            lines = self._log(name).read_text().strip().splitlines() or ["(it said nothing)"]
            raise StepError(f"{name} ended with {process.returncode}: {lines[-1]}")
        return output

    def start(self, name: str, *command: str | Path) -> Speaker:
        """Start a command that stays."""
        return Speaker(name, self._start(name, command))

    def stop(self) -> None:
        """End every child, politely first."""
        with self._lock:
            self._stopping = True
            processes = list(self._running.values())
        stop_groups([process.pid for process in processes])
        for process in processes:
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                _signal_group(process.pid, signal.SIGKILL)
                process.wait()

    def release(self) -> None:
        """Let the children live on."""
        with self._lock:
            self._running.clear()

    def _start(self, name: str, command: tuple[str | Path, ...]) -> subprocess.Popen[str]:
        with self._lock:
            if self._stopping:
                raise StepError(f"{name} was not started: the demonstration is ending")
            with self._log(name).open("w") as log:
                process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
                    list(map(str, command)),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env=self._environment,
                    start_new_session=True,
                )
            self._running[process.pid] = process
        return process

    def _log(self, name: str) -> Path:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self._logs / f"{name.replace(' ', '-').replace('/', '-')}.log"


def stop_groups(pids: list[int]) -> None:
    """Ask process groups to end."""
    for pid in pids:
        _signal_group(pid, signal.SIGTERM)


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise StepError("the child has no pipe")
    return stream
