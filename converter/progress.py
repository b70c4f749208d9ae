"""Says how far a conversion is: a bar on a terminal, plain lines elsewhere, on stderr."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Protocol, Self

from converter.jobs import Point

__all__ = ["Progress", "Renaming", "Silent", "progress_for"]

_LINE_EVERY_S = 10.0


class Progress(Protocol):
    """What a conversion tells of itself; called from several threads."""

    def begin(self, total: int) -> None:
        """So many more steps are ahead."""

    def started(self, step: str) -> None:
        """A step runs now."""

    def advanced(self, step: str, point: Point) -> None:
        """A step that runs says how far it is."""

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

    def advanced(self, step: str, point: Point) -> None:
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
    """A line a finished step, and a line now and then for one that takes long."""

    def __init__(self) -> None:
        self._total = self._done = 0
        self._said: dict[str, float] = {}
        self._lock = threading.Lock()

    def begin(self, total: int) -> None:
        """See `Progress`."""
        with self._lock:
            self._total += total

    def started(self, step: str) -> None:
        """See `Progress`."""
        with self._lock:
            self._said[step] = time.monotonic()

    def advanced(self, step: str, point: Point) -> None:
        """See `Progress`."""
        with self._lock:
            now = time.monotonic()
            if now - self._said.get(step, now) < _LINE_EVERY_S:
                return
            self._said[step] = now
            sys.stderr.write(f"{step}: {_so_far(point)}\n")
            sys.stderr.flush()

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
        self._total = 0
        self._running: dict[str, str] = {}
        self._lock = threading.Lock()

    def begin(self, total: int) -> None:
        """See `Progress`."""
        with self._lock:
            self._total += total
            self._bar.update(self._task, total=self._total)

    def started(self, step: str) -> None:
        """See `Progress`."""
        with self._lock:
            self._running[step] = step
            self._describe()

    def advanced(self, step: str, point: Point) -> None:
        """See `Progress`."""
        with self._lock:
            self._running[step] = f"{step} ({_so_far(point)})"
            self._describe()

    def finished(self, step: str, seconds: float, note: str = "") -> None:
        """See `Progress`."""
        tail = f", {note}" if note else ""
        with self._lock:
            self._running.pop(step, None)
            self._bar.console.print(f"{step}: {seconds:.1f} s{tail}", highlight=False, markup=False)
            self._bar.update(self._task, advance=1)
            self._describe()

    def _describe(self) -> None:
        from rich.markup import escape  # noqa: PLC0415 - see above

        self._bar.update(self._task, description=escape(", ".join(self._running.values())))

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def _so_far(point: Point) -> str:
    return f"{point.done} of {point.total} {point.what}"


class Renaming(Silent):
    """Tells another of everything that is shown already, calling one thing more precisely."""

    def __init__(self, told: Progress, name: str, shown: str) -> None:
        """Tell `told`, with `shown` in place of `name` in what steps are called."""
        self._told = told
        self._name = name
        self._shown = shown

    def begin(self, total: int) -> None:
        """See `Progress`."""
        self._told.begin(total)

    def started(self, step: str) -> None:
        """See `Progress`."""
        self._told.started(step.replace(self._name, self._shown))

    def advanced(self, step: str, point: Point) -> None:
        """See `Progress`."""
        self._told.advanced(step.replace(self._name, self._shown), point)

    def finished(self, step: str, seconds: float, note: str = "") -> None:
        """See `Progress`."""
        self._told.finished(step.replace(self._name, self._shown), seconds, note)


def progress_for(*, terminal: bool) -> Progress:
    """A bar where people look, lines where a log is kept."""
    return Bar() if terminal else Lines()
