"""What all benchmarks share: their command line, and where they leave their figures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["command_line", "leave"]


def command_line(description: str | None, name: str) -> argparse.ArgumentParser:
    """A parser with `--json`; the figures go to `build/benchmarks/<name>.json` by default."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path("build/benchmarks") / f"{name}.json"
    parser.add_argument("--json", type=Path, default=default, metavar="FILE", help="default %(default)s")
    return parser


def leave(figures: Mapping[str, Any], path: Path) -> None:
    """Write the figures, and print them."""
    text = json.dumps(figures, indent=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    print(text)
