"""docs/threat-model.md names a test for every attack, and every attack our facts list is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DOCUMENT = (HERE.parents[1] / "docs" / "threat-model.md").read_text().partition("## Attacks and the tests")[2]
ROWS = re.findall(
    r"^\| (?!attack|---)(.+?) \| (.+?) \| `(test_\w+\.py)::(test_\w+)` \|$", DOCUMENT, re.MULTILINE
)
UNTESTED = DOCUMENT.partition("Not tested yet:")[2]

REQUIRED = (
    "arbitrary install", "rollback", "fast-forward", "freeze", "endless data", "slow trickle",
    "mix-and-match",
    "wrong software for the hardware", "foreign publisher", "key compromise", "duplicate signatures",
    "expired metadata", "an older policy", "swapped delta", "torn metadata", "clock", "captive portal",
    "foreign root", "wrong model", "floor", "unknown format", "damaged trust record", "tampered byte",
)  # fmt: skip


def test_every_row_of_the_table_is_well_formed() -> None:
    lines = [
        line for line in DOCUMENT.splitlines() if line.startswith("| ") and not line.startswith("| attack")
    ]
    assert len(lines) == len(ROWS) > 30
    assert len({attack for attack, *_ in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_test_of_a_row_exists(row: tuple[str, str, str, str]) -> None:
    _, does, file, name = row
    assert does
    assert re.search(rf"^def {name}\(", (HERE / file).read_text(), re.MULTILINE), f"{file}::{name}"


@pytest.mark.parametrize("attack", REQUIRED)
def test_every_known_attack_is_in_the_table_or_owned_up_to(attack: str) -> None:
    assert any(attack in listed for listed, *_ in ROWS) or attack in UNTESTED
