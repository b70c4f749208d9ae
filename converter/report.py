"""The conversion's report, `report.json`: what was tried and found, for people who want to know why.

Devices and servers never read it. It holds no time and no path: equal conversions, equal reports.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from converter.assembly import Made
from converter.intervals import ppm, wilson_interval
from converter.phases import Order
from converter.recipe import Recipe
from converter.routes import node_of, route_to, source_node
from converter.verification import Findings, parity_limit
from ota_contract.manifest import Release

__all__ = ["dump_report"]

_FORMAT = "ferry.report/1"


def dump_report(
    order: Order,
    release: Release,
    made: Sequence[Made],
    findings: Mapping[str, Findings],
    *,
    source_correct: int,
) -> bytes:
    """The report's bytes."""
    recipe, sets = order.recipe, order.sets
    n = len(sets.evaluation)
    low, high = wilson_interval(source_correct, n, recipe.goal.confidence)
    value = {
        "format": _FORMAT,
        "model": str(release.name),
        "version": release.version,
        "goal": asdict(recipe.goal),
        "host": asdict(order.host),
        "datasets": {
            data.name: {"n": len(data), "sha256": data.sha256()}
            for data in (sets.calibration, sets.evaluation, sets.golden)
        },
        "source": {
            "framework": release.source.framework,
            "sha256": release.source.sha256,
            recipe.goal.metric: {
                "value_ppm": ppm(source_correct / n),
                "low_ppm": ppm(low),
                "high_ppm": ppm(high),
            },
        },
        "passes": [_pass(item) for item in made],
        "variants": [_variant(recipe, release, target.id, findings) for target in recipe.targets],
    }
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


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
        "found": None if found is None else asdict(found),
    }
