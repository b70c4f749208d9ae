"""Which trials another beats in everything, and why each was not chosen."""

from __future__ import annotations

from collections.abc import Sequence

from converter.goals import Goal
from converter.search.trials import Judged

__all__ = ["SLOWER", "dominating", "slower_than_float", "why_not"]

SLOWER = 1.1
"""Latency of one host: less of a difference is noise."""


def dominating(judged: Judged, others: Sequence[Judged]) -> Judged | None:
    """One that is surely better in all that is known of both, or None.

    Surely: smaller, faster by more than noise where both were measured, and losing less even where its
    interval is at its worst and the other's at its best. Everything else stays on the front.
    """
    for other in others:
        if other is not judged and _beats(other, judged):
            return other
    return None


def slower_than_float(p50_us: int | None, float_us: int | None) -> str:
    """A warning, or an empty string."""
    if p50_us is None or float_us is None or p50_us <= SLOWER * float_us:
        return ""
    return f"slower than float: {p50_us} µs against {float_us}"


def why_not(judged: Judged, goal: Goal, history: Sequence[Judged]) -> tuple[str, str]:
    """Outcome and reason of a trial that was not chosen."""
    if judged.failure:
        return "failed", judged.failure
    if judged.drop is None:
        return "failed", "nothing was compared"
    better = dominating(judged, history)
    dominated = f"; {better.trial.name} is better in everything" if better else ""
    if not judged.keeps(goal.max_drop):
        lost = f"{goal.metric.value} {goal.metric.verb} by {goal.metric.shown(judged.drop.value)}"
        return "over budget", f"{lost}, {goal.metric.shown(goal.max_drop)} allowed{dominated}"
    if better is not None:
        return "dominated", f"{better.trial.name} is better in everything"
    return "dropped", f"keeps to the budget, and another is of less {goal.prefer.value}"


def _beats(one: Judged, other: Judged) -> bool:
    if one.failure or one.drop is None or other.drop is None:
        return False
    timed = one.p50_us is not None and other.p50_us is not None
    slower = timed and (one.p50_us or 0) * SLOWER >= (other.p50_us or 0)
    return one.size_bytes < other.size_bytes and one.drop.high < other.drop.low and not slower
