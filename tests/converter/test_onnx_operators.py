"""Operators mean on the way to Core ML and TFLite what ONNX says, by onnx's own tests of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.converter.onnx_operator_cases import FOLDED, operators_of_onnx
from tests.packages import REPOSITORY, made_once

PAGE = REPOSITORY / "docs" / "onnx-operators.md"
RUNS = {
    "coreml": ("--most", "2"),
    "torch": ("--most", "1000"),
    "tflite": ("--most", "1", "--every", "5"),
}
"""How much of it is run here; the page is written from all of it. PyTorch alone takes no time."""
LEAST = {"coreml": 150, "torch": 600, "tflite": 20}
COLUMNS = {"coreml": (1, "Core ML"), "tflite": (2, "TFLite")}
TIES = {"test_top_k_same_values", "test_top_k_same_values_2d", "test_top_k_same_values_largest"}
"""PyTorch's top_k promises no order among equals; TFLite's does, and keeps to ONNX's."""


def _found(session: Path, target: str) -> dict[str, Any]:
    with made_once(session, f"onnx-operators-{target}") as (path, there):
        if not there:
            module = "tests.converter.onnx_operator_cases"
            command = [sys.executable, "-m", module, target, *RUNS[target]]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
            assert done.stdout, done.stderr[-2000:]
            path.write_text(done.stdout)
    value: dict[str, Any] = json.loads(path.read_text())
    return value


@pytest.mark.parametrize("target", RUNS)
def test_no_operator_is_converted_wrongly(session: Path, target: str) -> None:
    found = _found(session, target)
    wrong = [line for lines in found["wrong"].values() for line in lines]
    ties = TIES if target == "torch" else set()
    assert [line for line in wrong if line.partition(":")[0] not in ties] == []
    assert sum(map(len, found["verified"].values())) > LEAST[target]


@pytest.mark.parametrize("target", COLUMNS)
def test_the_page_lists_the_operators_there_are(session: Path, target: str) -> None:
    """`python -m benchmarks.onnx_operators` and `tests.converter.onnx_operator_page` write it."""
    known = {name for names in _found(session, target)["groups"].values() for name in names}
    place, shown = COLUMNS[target]
    assert _operators(place).keys() == known
    refused = PAGE.read_text().partition(f"## Refused by name for {shown}\n\n")[2].partition(".")[0]
    assert set(refused.split(", ")) == operators_of_onnx() - known - {*FOLDED}


@pytest.mark.parametrize("target", COLUMNS)
def test_what_is_verified_here_is_verified_on_the_page(session: Path, target: str) -> None:
    stated = _operators(COLUMNS[target][0])
    found = _found(session, target)["verified"]
    assert len(found) >= len(stated) // 6
    for name in found.keys() & stated.keys():  # an If of a known condition is none any more
        assert len(found[name]) <= stated[name]


def _operators(place: int) -> dict[str, int]:
    """How many tests each row says agree, in a column."""
    rows = re.findall(r"^\| (\w+) \| (\d+|not yet|–) \| (\d+|not yet|–) \|", PAGE.read_text(), re.MULTILINE)
    counts = {row[0]: row[place] for row in rows if row[place] != "–"}
    return {name: int(count) if count.isdigit() else 0 for name, count in counts.items()}
