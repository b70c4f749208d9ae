"""What people see of a conversion: plain lines where a log is kept, a bar where a terminal is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from converter import progress
from converter.jobs import Point
from converter.progress import Bar, Progress, progress_for

POINT = Point(what="evaluation samples", done=120, total=540)


def _convert(told: Progress) -> None:
    with told:
        told.begin(2)
        told.started("evaluate [a]")
        told.advanced("evaluate [a]", POINT)
        told.started("measure b")
        told.finished("evaluate [a]", 1.25)
        told.finished("measure b", 0.0, "known from before")


def test_a_log_gets_a_line_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    _convert(progress_for(terminal=False))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["[1/2] evaluate [a]: 1.2 s", "[2/2] measure b: 0.0 s, known from before"]


def test_a_log_gets_a_line_now_and_then_of_a_long_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)
    _convert(progress_for(terminal=False))
    assert "evaluate [a]: 120 of 540 evaluation samples" in capsys.readouterr().err.splitlines()


def test_a_terminal_shows_what_is_at_work_and_how_far(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(
        "rich.console.Console",
        lambda **_: Console(file=out, force_terminal=True, width=200, legacy_windows=False),
    )
    bar = progress_for(terminal=True)
    assert isinstance(bar, Bar)
    shown: list[str] = []
    with bar:
        bar.begin(2)
        bar.started("evaluate [a]")
        bar.advanced("evaluate [a]", POINT)
        bar.started("measure b")
        bar._bar.refresh()
        shown.append(out.getvalue())
        bar.finished("evaluate [a]", 1.25, "note")
        bar._bar.refresh()
    assert "evaluate [a] (120 of 540 evaluation samples), measure b" in shown[0]
    assert "evaluate [a]: 1.2 s, note" in out.getvalue()
    assert "1/2" in out.getvalue()
