"""Where every benchmark leaves its figures: a JSON file, and the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["leave"]


def leave(figures: Mapping[str, Any], path: Path) -> None:
    """Write the figures, and print them."""
    text = json.dumps(figures, indent=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    print(text)
