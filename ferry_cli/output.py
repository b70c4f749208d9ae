"""How fleet commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["show_fields", "show_json", "show_rows"]

_PIPE_WIDTH = 200


def show_json(value: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def show_rows(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], *, empty: str) -> None:
    """Print a table.

    Args:
        rows: What to print, one mapping each.
        columns: Key in the rows → heading.
        empty: The sentence printed where there are no rows, saying how to get some.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    count = 0
    for row in rows:
        table.add_row(*(_text(row.get(key)) for key in columns))
        count += 1
    console = _console()
    if count:
        console.print(table)
    else:
        console.print(empty)


def show_fields(fields: Mapping[str, Any]) -> None:
    """Print names and values, one a line."""
    width = max(map(len, fields), default=0)
    console = _console()
    for name, value in fields.items():
        console.print(f"{name:<{width}}  {_text(value)}", soft_wrap=True)


def _console() -> Console:
    # No markup: a device's own words must not be obeyed, nor stop the table with a stray "[/]".
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def _text(value: object) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
