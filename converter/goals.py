"""What a recipe's variants must be worth, and how long may be searched for them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from converter.proof.metrics import Metric
from converter.tables import Table

__all__ = ["Goal", "Prefer", "SearchLimits", "read_goal", "read_search_limits"]

_A_DAY_S = 86_400.0


class Prefer(Enum):
    """What to minimise among variants that are good enough."""

    SIZE = "size"
    LATENCY = "latency"
    """Of this host: prefer it where the devices are like it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a variant must be worth."""

    metric: Metric
    max_drop: float
    """How much of the source's metric a variant may lose."""
    confidence: float = 0.95
    """Of the printed intervals."""
    tolerance: float = 0.0
    """How far from the label an answer may lie, of the metric "within"."""
    prefer: Prefer = Prefer.SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchLimits:
    """What searching, and finding out which layers suffer, may take."""

    max_trials: int = 24
    """Variants made for one `precision = "auto"`."""
    max_seconds: float = 1800.0
    """After which no further one is begun."""
    sensitivity_s: float = 60.0
    """For the layers of one runtime; zero leaves them unexamined."""


def read_goal(root: Table) -> Goal:
    """The table `[goal]`.

    Raises:
        RecipeError: Missing or malformed.
    """
    table = root.table("goal", ("metric", "max_drop", "confidence", "tolerance", "prefer"))
    metric = table.member("metric", Metric)
    if table.has("tolerance") != (metric is Metric.WITHIN):
        table.fail("tolerance", f'the metric "{Metric.WITHIN.value}" has one, and no other')
    return Goal(
        metric=metric,
        max_drop=table.number("max_drop", within=(0.0, 1.0)),
        confidence=table.number("confidence", 0.95, within=(0.5, 0.9999)),
        tolerance=table.number("tolerance", 0.0, within=(0.0, 1e30)),
        prefer=table.member("prefer", Prefer, Prefer.SIZE),
    )


def read_search_limits(root: Table) -> SearchLimits:
    """The table `[search]`, which may be left out.

    Raises:
        RecipeError: Malformed.
    """
    table = root.table("search", ("max_trials", "max_seconds", "sensitivity_s"), optional=True)
    defaults = SearchLimits()
    return SearchLimits(
        max_trials=table.integer("max_trials", defaults.max_trials, low=1),
        max_seconds=table.number("max_seconds", defaults.max_seconds, within=(0.0, _A_DAY_S)),
        sensitivity_s=table.number("sensitivity_s", defaults.sensitivity_s, within=(0.0, _A_DAY_S)),
    )
