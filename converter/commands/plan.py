"""Show how a recipe's variants would come about, without converting anything.

  ferry plan models/digits/recipe.toml

Each variant's route is the shortest chain of passes from the source; the table says what each is for,
what it needs, whether that is installed here, and which other chains there were.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from converter.plans import Planned, planned_route
from converter.recipe import Recipe, load_recipe
from converter.routes import node_of, other_routes, source_node, version_of
from converter.search.bench import candidates
from converter.variants import Precision, Search, Target

__all__ = ["configure", "run"]

_PIPE_WIDTH = 200


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE.toml", help="what to convert into what")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Show the routes."""
    recipe = load_recipe(arguments.recipe)
    start = source_node(recipe.framework)
    routes = {target: planned_route(target, start=start) for target in recipe.targets}
    if arguments.json:
        rows = [_row(recipe, target, route) for target, route in routes.items()]
        rows += [_searched(search, candidates(search, start)) for search in recipe.searches]
        sys.stdout.write(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    else:
        _show(recipe, routes)
        for search in recipe.searches:
            names = ", ".join(precision.value for precision in candidates(search, start))
            sys.stdout.write(f"{search.id} is searched for, beginning with {names}\n")
    return 0


def _searched(search: Search, begins_with: tuple[Precision, ...]) -> dict[str, Any]:
    return {
        "variant": search.id,
        "runtime": search.runtime.value,
        "precision": "auto",
        "candidates": [precision.value for precision in begins_with],
    }


def _others(recipe: Recipe, target: Target) -> list[list[str]]:
    chains = other_routes(node_of(target), start=source_node(recipe.framework))
    return [[step.id for step in chain] for chain in chains]


def _row(recipe: Recipe, target: Target, route: tuple[Planned, ...]) -> dict[str, Any]:
    return {
        "variant": target.id,
        "runtime": target.runtime.value,
        "precision": target.precision.value,
        "other_routes": _others(recipe, target),
        "installed": all(version_of(name) for item in route for name in item.step.needs),
        "passes": [
            {
                "id": item.step.id,
                "from": item.step.source.id,
                "to": item.step.target.id,
                "layout": item.step.target.layout,
                "params": dict(item.params),
                "calibrated": item.step.calibrated,
                "needs": {name: version_of(name) for name in item.step.needs},
                "reason": item.step.reason,
            }
            for item in route
        ],
    }


def _show(recipe: Recipe, routes: dict[Target, tuple[Planned, ...]]) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    console.print(f"[bold]{recipe.name} {recipe.version}[/bold] from {recipe.shown}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("VARIANT", "PASS", "FROM → TO", "NEEDS", "WHY"):
        table.add_column(heading, overflow="fold")
    for target, route in routes.items():
        for index, step in enumerate(item.step for item in route):
            needs = ", ".join(f"{name} {version_of(name) or '(not installed)'}" for name in step.needs)
            calibrated = " + calibration" if step.calibrated else ""
            change = f"{step.source.id}{calibrated} → {step.target.id}"
            table.add_row("" if index else target.id, step.id, change, needs, step.reason)
        for chain in _others(recipe, target):
            table.add_row("", f"[dim]or {' → '.join(chain)}[/dim]", "", "", "[dim]longer, so not taken[/dim]")
    console.print(table)
