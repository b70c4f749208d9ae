"""The README's table of results is as `models.results` writes it, from packages alone."""

from __future__ import annotations

import re

import pytest

from models.results import BEGIN, COLUMNS, END, MODELS, replaced
from tests.packages import REPOSITORY


def _table() -> list[str]:
    text = (REPOSITORY / "README.md").read_text()
    return text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()


def test_the_table_is_in_the_generated_form() -> None:
    header, rule, *lines = _table()
    assert header == f"| {' | '.join(COLUMNS)} |"
    assert rule == f"|{'---|' * len(COLUMNS)}"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert cells
    for row in cells:
        assert len(row) == len(COLUMNS)
        assert re.fullmatch(r"[\d.]+ [kM]B", row[4]), row
        assert re.fullmatch(r"\d\.\d{4} \(\d\.\d{3} … \d\.\d{3}\)", row[5]), row
        assert re.fullmatch(r"[+-]\d\.\d{4}", row[6]), row
        assert re.fullmatch(r"–|[\d.]+ (µs|ms)", row[7]), row
    assert lines[-1].startswith("p50 is of one inference on one thread of ")


def test_every_model_has_its_rows_card_and_recipe() -> None:
    named = re.findall(r"\[(\w+)\]\(models/(\w+)/CARD\.md\)", "\n".join(_table()))
    assert named == [(name, name) for name in MODELS]
    for name in MODELS:
        assert (REPOSITORY / "models" / name / "CARD.md").is_file()
        assert (REPOSITORY / "models" / name / "recipe.toml").is_file()


def test_only_what_is_between_the_markers_is_replaced() -> None:
    assert replaced(f"before\n{BEGIN}\nold\n{END}\nafter\n", "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


@pytest.mark.parametrize("readme", ["no markers", f"{END} {BEGIN}", f"{BEGIN} {BEGIN} {END}", BEGIN])
def test_a_readme_without_the_markers_is_left_alone(readme: str) -> None:
    with pytest.raises(ValueError, match="each once and in this order"):
        replaced(readme, "new")
