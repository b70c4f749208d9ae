"""The examples of a page of documentation, for tests that run them."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["blocks"]

_ROOT = Path(__file__).resolve().parents[2]


def blocks(page: str, language: str, *, section: str = "") -> list[str]:
    """The fenced blocks of a language in a page, in order.

    Args:
        page: Path of the page in the repository.
        language: What follows the fence, all of it.
        section: Title of the one section to look in; everywhere by default.
    """
    text = (_ROOT / page).read_text(encoding="utf-8")
    if section:
        found = re.search(rf"(?ms)^#+ {re.escape(section)}\n(.*?)(?=^#|\Z)", text)
        assert found, f"{page} has no section {section!r}"
        text = found[1]
    return re.findall(rf"(?ms)^```{re.escape(language)}\n(.*?)^```$", text)
