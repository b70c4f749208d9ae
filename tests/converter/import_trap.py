"""Processes of passes that die when something imports what they must not need."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

__all__ = ["trap_imports"]


def trap_imports(folder: Path, monkeypatch: pytest.MonkeyPatch, names: Iterable[str]) -> None:
    """Let every pass started from now on end when it imports one of these packages."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import sys\n"
        "class Trap:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {tuple(names)!r}:\n"
        "            raise SystemExit(f'{name} was imported')\n"
        "sys.meta_path.insert(0, Trap())\n"
    )
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setattr("converter.processes._ROOT", f"{root}:{site}")
