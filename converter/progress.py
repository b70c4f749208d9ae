"""Says how far a conversion is: a bar on a terminal, plain lines elsewhere, on stderr."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Protocol, Self

__all__ = ["Progress", "Silent", "progress_for"]


class Progress(Protocol):
    """What a conversion tells of itself; called from several threads."""

    def begin(self, total: int) -> None:
        """So many steps are ahead."""

    def started(self, step: str) -> None:
        """A step runs now."""

    def finished(self, step: str, seconds: float, note: str = "") -> None:
        """A step is done."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""


class Silent:
    """Tells nobody."""

    def begin(self, total: int) -> None:
        """See `Progress`."""

    def started(self, step: str) -> None:
        """See `Progress`."""

    def finished(self, step: str, seconds: float, note: str = "") -> None:
        """See `Progress`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


class Lines(Silent):
    """A line a finished step."""

    def __init__(self) -> None:
        self._total = self._done = 0
        self._lock = threading.Lock()

    def begin(self, total: int) -> None:
        """See `Progress`."""
        self._total = total

    def finished(self, step: str, seconds: float, note: str = "") -> None:
        """See `Progress`."""
        with self._lock:
            self._done += 1
            tail = f", {note}" if note else ""
            sys.stderr.write(f"[{self._done}/{self._total}] {step}: {seconds:.1f} s{tail}\n")
            sys.stderr.flush()


class Bar(Silent):
    """A bar with the steps that run now."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - only where a terminal is there to see it
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
        from rich.progress import Progress as RichProgress  # noqa: PLC0415

        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._bar = RichProgress(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task("", total=None)
        self._running: list[str] = []
        self._lock = threading.Lock()

    def begin(self, total: int) -> None:
        """See `Progress`."""
        self._bar.update(self._task, total=total)

    def started(self, step: str) -> None:
        """See `Progress`."""
        with self._lock:
            self._running.append(step)
            self._bar.update(self._task, description=", ".join(self._running))

    def finished(self, step: str, seconds: float, note: str = "") -> None:
        """See `Progress`."""
        tail = f", {note}" if note else ""
        with self._lock:
            self._running.remove(step)
            self._bar.console.print(f"{step}: {seconds:.1f} s{tail}", highlight=False)
            self._bar.update(self._task, advance=1, description=", ".join(self._running))

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def progress_for(*, terminal: bool) -> Progress:
    """A bar where people look, lines where a log is kept."""
    return Bar() if terminal else Lines()
