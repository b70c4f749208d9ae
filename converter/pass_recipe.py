"""The recipe as one pass sees it: without what its result must not depend on.

A result is remembered under a key (`converter.caching`). What a pass cannot see it cannot depend on, so
the key needs no list of what each pass happens to read: it holds all that is left here.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path

from converter.goals import Prefer, SearchLimits
from converter.recipe import DataPaths, Limits, Recipe

__all__ = ["EVERYTHING", "Reads", "recipe_for", "withheld"]

_WITHHELD = Path("/nowhere/withheld-from-this-pass")


class Reads(Enum):
    """Files of a recipe a job may read."""

    SOURCE = "source"
    CALIBRATION = "calibration"
    EVALUATION = "evaluation"
    GOLDEN = "golden"


EVERYTHING = frozenset(Reads)


def recipe_for(recipe: Recipe, reads: frozenset[Reads]) -> Recipe:
    """The recipe with the files of `reads`, and without what only judging or the manifest needs."""

    def path(which: Reads, own: Path) -> Path:
        return own if which in reads else _WITHHELD

    return replace(
        recipe,
        sha256="",
        version="0.0.0",
        counter=1,
        floor=1,
        license="",
        goal=replace(recipe.goal, max_drop=0.0, confidence=0.5, prefer=Prefer.SIZE),
        search=SearchLimits(),
        limits=Limits(timeout_s=0.0, memory_bytes=0),
        targets=(),
        searches=(),
        source=path(Reads.SOURCE, recipe.source),
        data=DataPaths(
            calibration=path(Reads.CALIBRATION, recipe.data.calibration),
            evaluation=path(Reads.EVALUATION, recipe.data.evaluation),
            golden=path(Reads.GOLDEN, recipe.data.golden),
        ),
    )


def withheld(path: Path) -> bool:
    """Whether a path of `recipe_for` leads nowhere on purpose."""
    return path == _WITHHELD
