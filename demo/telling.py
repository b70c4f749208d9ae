"""What the demonstration prints: steps with their times, and the summary at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["Teller"]

_LINE_EVERY_S = 5.0


class Teller:
    """Prints for people; on a terminal the waiting is shown, too."""

    def __init__(self) -> None:
        """Begin the clock."""
        self._console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
        self._began = time.monotonic()
        self._number = 0
        self._updated = self._began
        self._status = self._console.status("working")

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce a step, and say how long it took."""
        self._number += 1
        began = time.monotonic()
        self._console.print(f"[bold]{self._number:>2}  {title}[/bold]")
        with self._console.status("working") as self._status:
            yield
        self.say(f"done in {time.monotonic() - began:.1f} s")

    def update(self, text: str) -> None:
        """What is being waited for: beside the spinner on a terminal, a line now and then elsewhere."""
        now = time.monotonic()
        if self._console.is_terminal:
            self._status.update(escape(text))
        elif now - self._updated >= _LINE_EVERY_S:
            self._updated = now
            self.say(text)

    def say(self, text: str) -> None:
        """One line below the current step."""
        self._console.print(f"      {text}", markup=False)

    def table(self, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows of equal keys."""
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for key in rows[0] if rows else ():
            table.add_column(key)
        for row in rows:
            table.add_row(*("–" if value is None else str(value) for value in row.values()))
        self._console.print()
        self._console.print(table)

    def finish(self, lines: Mapping[str, object]) -> None:
        """Names and values."""
        self._console.print()
        width = max(map(len, lines), default=0)
        for key, value in lines.items():
            self._console.print(f"{key:<{width}}  {value}", markup=False)

    def remark(self, text: str) -> None:
        """A sentence on a line of its own."""
        self._console.print(f"\n{text}", markup=False)

    def took(self) -> None:
        """The end."""
        self.remark(f"The whole journey took {time.monotonic() - self._began:.0f} s.")
