"""docs/threat-model.md names a test for every attack, and every attack our facts list is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = (DOCS / "threat-model.md").read_text().partition("## Attacks and the tests")[2]
ROWS = re.findall(r"^\| (?!attack|---)(.+?) \| (.+?) \| \[`(\w+)`\]\((\S+\.py)\) \|$", DOCUMENT, re.MULTILINE)

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
    assert len(lines) == len(ROWS) > 50
    assert len({attack for attack, *_ in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_test_of_a_row_exists(row: tuple[str, str, str, str]) -> None:
    _, does, name, link = row
    assert does
    text = (DOCS / link).read_text()
    # pytest collects it by that name: a function or method of its own, not a word in a comment.
    assert re.search(rf"^ *def {name}\(", text, re.MULTILINE), f"{link}: {name}"
    assert name.startswith("test_")


@pytest.mark.parametrize("attack", REQUIRED)
def test_every_known_attack_is_in_the_table(attack: str) -> None:
    assert any(attack in listed for listed, *_ in ROWS)
