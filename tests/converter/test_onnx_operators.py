"""Operators mean on the way to Core ML what ONNX says, by onnx's own tests of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.packages import REPOSITORY, made_once

PAGE = REPOSITORY / "docs" / "onnx-operators.md"
EACH = 2
"""Tests run of each operator; the page is written from all of them."""


@pytest.fixture(scope="session")
def found(session: Path) -> dict[str, Any]:
    """What became of a few of the tests of every operator."""
    with made_once(session, "onnx-operators") as (path, there):
        if not there:
            command = [sys.executable, "-m", "tests.converter.onnx_operator_cases", "--most", str(EACH)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
            assert done.stdout, done.stderr[-2000:]
            path.write_text(done.stdout)
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def test_no_operator_is_converted_wrongly(found: dict[str, Any]) -> None:
    assert found["wrong"] == {}
    assert sum(found["verified"].values()) > 150


def test_the_page_lists_the_operators_there_are(found: dict[str, Any]) -> None:
    """`python -m tests.converter.onnx_operator_cases --docs docs/onnx-operators.md` writes it."""
    page = PAGE.read_text()
    assert _operators(page).keys() == _operators(found["page"]).keys()
    assert page.partition("## Refused by name")[2] == found["page"].partition("## Refused by name")[2]


def test_what_is_verified_here_is_verified_on_the_page(found: dict[str, Any]) -> None:
    stated = _operators(PAGE.read_text())
    for name, count in found["verified"].items():
        assert count <= stated[name]


def _operators(page: str) -> dict[str, int]:
    """How many tests each row says agree."""
    rows = re.findall(r"^\| (\w+) \| (\d+|not yet) \|", page, re.MULTILINE)
    return {name: int(count) if count.isdigit() else 0 for name, count in rows}
