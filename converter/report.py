"""The conversion's report, `report.json`: what was tried and found, for people who want to know why.

Devices and servers never read it. It holds no time and no path: equal conversions, equal reports.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from converter.assembly import Made
from converter.goals import Goal
from converter.intervals import bounded_ppm
from converter.phases import Order
from converter.proof.comparison import Comparison, Estimate
from converter.recipe import Recipe
from converter.routes import node_of, route_to, source_node
from converter.verification import Findings, parity_limit
from ota_contract.manifest import Release

__all__ = ["Learned", "dump_report", "proofs"]

_FORMAT = "ferry.report/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What a conversion found out besides the verdicts."""

    searches: Sequence[Mapping[str, Any]]
    """What each search tried."""
    sensitivity: Sequence[Mapping[str, Any]]
    """What layers lose, by runtime."""
    slow: Sequence[str]
    """Of each variant that is slower than float, how much."""
    confusion: Mapping[str, list[list[int]]]
    """Of each variant, how often it gave a class (column) where the source gave one (row)."""


def dump_report(
    order: Order,
    release: Release,
    made: Sequence[Made],
    findings: Mapping[str, Findings],
    *,
    worth: Estimate,
    learned: Learned,
) -> bytes:
    """The report's bytes.

    Args:
        order: What was converted.
        release: What came of it.
        made: The models of the passes.
        findings: Of every variant.
        worth: What the source itself is worth.
        learned: What is known besides the verdicts.
    """
    recipe, sets = order.recipe, order.sets
    value = {
        "format": _FORMAT,
        "model": str(release.name),
        "version": release.version,
        "goal": _goal(recipe.goal),
        "host": asdict(order.host),
        "datasets": {
            data.name: {"n": len(data), "sha256": data.sha256()}
            for data in (sets.calibration, sets.evaluation, sets.golden)
        },
        "source": {
            "framework": release.source.framework,
            "sha256": release.source.sha256,
            recipe.goal.metric.value: {
                "value_ppm": bounded_ppm(worth.value),
                "low_ppm": bounded_ppm(worth.low),
                "high_ppm": bounded_ppm(worth.high),
            },
        },
        "certification": [*proofs(recipe, findings), *(f"{line}." for line in learned.slow)],
        "search": list(learned.searches),
        "sensitivity": list(learned.sensitivity),
        "confusion": dict(learned.confusion),
        "passes": [_pass(item) for item in made],
        "variants": [_variant(recipe, release, target.id, findings) for target in recipe.targets],
    }
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def proofs(recipe: Recipe, findings: Mapping[str, Findings]) -> tuple[str, ...]:
    """Of each variant that was compared, what the samples allow to say of the budget."""
    return tuple(
        f"{target.id}: {compared.proof(recipe.goal.max_drop)}."
        for target in recipe.targets
        if (compared := findings[target.id].comparison) is not None
    )


def _pass(made: Made) -> dict[str, Any]:
    step = made.planned.step
    return {
        "id": step.id,
        "model": made.planned.id,
        "from": step.source.id,
        "to": step.target.id,
        "layout": step.target.layout,
        "params": dict(made.planned.params),
        "reason": step.reason,
        "facts": dict(made.facts),
    }


def _variant(
    recipe: Recipe, release: Release, variant_id: str, findings: Mapping[str, Findings]
) -> dict[str, Any]:
    variant = release.variant(variant_id)
    target = next(target for target in recipe.targets if target.id == variant_id)
    found = findings.get(variant_id)
    limit = parity_limit(target.precision)
    return {
        "id": variant_id,
        "route": [step.id for step in route_to(node_of(target), start=source_node(recipe.framework))],
        "rank": variant.rank,
        "status": variant.verification.status.value,
        "how": variant.verification.how,
        "parity_limit": limit if limit < 1 else None,
        "tolerances": {item.output: item.max_abs for item in variant.tolerances},
        "found": None if found is None else _found(found, recipe.goal),
    }


def _goal(goal: Goal) -> dict[str, Any]:
    return {**asdict(goal), "metric": goal.metric.value, "prefer": goal.prefer.value}


def _found(findings: Findings, goal: Goal) -> dict[str, Any]:
    compared = findings.comparison
    worth = {} if compared is None else _worth(compared, goal)
    return {**{key: value for key, value in asdict(findings).items() if key != "comparison"}, **worth}


def _worth(compared: Comparison, goal: Goal) -> dict[str, Any]:
    return {
        "n": compared.n,
        "agreed": compared.agreed,
        "drop": {**asdict(compared.drop), "confidence": compared.drop_confidence},
        "certified": compared.certifies(goal.max_drop),
        "samples_needed": compared.needed,
        "proof": compared.proof(goal.max_drop),
    }
