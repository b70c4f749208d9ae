"""Real `ferry-device run` processes without an interpreter's start each: one imports everything and forks.

What is forked is a process like any other: it has its own locks, sockets and children, and a SIGKILL ends it
between any two instructions. `python -m tests.support.fork_server` is the server, `Forks` its client.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

__all__ = ["Forks", "Life", "steps"]

_EVENTS = frozenset(
    """open os.rename os.remove os.mkdir os.rmdir os.link os.truncate os.chmod os.listdir os.scandir
    os.symlink socket.connect subprocess.Popen shutil.rmtree""".split()  # noqa: SIM905 - readable so
)
"""What the interpreter tells of a process: steps of progress, however fast the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """How one process runs, and when it ends itself."""

    config: str
    counter: str
    """A file whose first eight bytes count the steps of progress."""
    self_test: bool = True
    """With the real child, or passing at once."""
    dies_at: int = -1
    """By SIGKILL, at that step."""
    feed: str = ""
    """An input the process answers over and over."""


class Forks:
    """The client: starts processes and waits for their end."""

    def __init__(self) -> None:
        """Start the server."""
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fork_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, life: Life) -> int:
        """Start a process; returns its id."""
        if self._server.stdin is None or self._server.stdout is None:
            raise RuntimeError("no pipes")
        self._server.stdin.write(json.dumps(asdict(life)) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._server:
            self._server.kill()


def steps(counter: Path) -> int:
    """Steps a process has made."""
    number: int = struct.unpack("Q", counter.read_bytes()[:8])[0]
    return number


def _serve() -> None:
    import onnxruntime  # noqa: F401, PLC0415 - what an app has loaded when it predicts

    import device_sdk.commands.run  # noqa: PLC0415
    import device_sdk.ferry  # noqa: F401, PLC0415
    import edge_runtime.onnx_runtime  # noqa: F401, PLC0415

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            code = 1
            with contextlib.suppress(BaseException):
                code = _live(Life(**json.loads(line)))
            os._exit(code)
        sys.stdout.write(f"{process}\n")
        sys.stdout.flush()


def _live(life: Life) -> int:
    from device_sdk import updater  # noqa: PLC0415
    from device_sdk.__main__ import main  # noqa: PLC0415

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nowhere, descriptor)
    if not life.self_test:
        vars(updater)["self_test"] = lambda *_, **__: 3
    _count(life)
    feed = ["--feed", life.feed, "--feed-rate", "400"] if life.feed else []
    return main(["run", "--config", life.config, *feed])


def _count(life: Life) -> None:
    """Count what the interpreter tells of, and end by SIGKILL at one such step."""
    with open(life.counter, "r+b") as stream:  # noqa: PTH123 - before anything counts
        memory = mmap.mmap(stream.fileno(), 8)
    made = 0

    def hook(event: str, _: tuple[Any, ...]) -> None:
        nonlocal made
        if event not in _EVENTS:
            return
        if made == life.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        made += 1
        struct.pack_into("Q", memory, 0, made)

    sys.addaudithook(hook)


if __name__ == "__main__":
    _serve()
