"""What is to be run for a recipe: the passes of its variants' routes, each with its options, each once.

A route is the graph's (`converter.routes`); a plan adds what a recipe says of one variant. Two variants
that need the same intermediate model share the pass that makes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from converter.errors import RouteError
from converter.routes import Node, Pass, node_of, route_to
from converter.variants import Options, Target

__all__ = ["Planned", "plan", "planned_route"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A pass that will be run, for one variant or for a model on the way to several."""

    id: str
    """Of the model it makes: a variant's id where the recipe asks for it."""
    step: Pass
    options: Options
    after: str | None
    """The id of the planned pass whose model it reads; None where it reads the source."""

    @property
    def node(self) -> Node:
        """What it makes."""
        return self.step.target

    @property
    def params(self) -> Mapping[str, Any]:
        """What its process is told: the pass's own parameters, and over them the recipe's."""
        return {**self.step.params, **self.options.params()}


def plan(targets: Iterable[Target], *, start: Node) -> tuple[Planned, ...]:
    """Every pass the variants need, each once, none before what it needs.

    Raises:
        RouteError: A variant cannot be made, or not with its options.
    """
    targets = tuple(targets)
    names = {
        _identity(item): target.id for target in targets for item in planned_route(target, start=start)[-1:]
    }
    found: dict[str, Planned] = {}
    renamed: dict[str, str] = {}
    for target in targets:
        for item in planned_route(target, start=start):
            name = names.get(_identity(item), item.id)
            renamed[item.id] = name
            after = None if item.after is None else renamed.get(item.after, item.after)
            found.setdefault(name, replace(item, id=name, after=after))
    return tuple(found.values())


def planned_route(target: Target, *, start: Node) -> tuple[Planned, ...]:
    """The passes of one variant, from the source on; the last makes it.

    Raises:
        RouteError: It cannot be made, or not with its options.
    """
    route = route_to(node_of(target), start=start)
    stated = target.options.params()
    for key in stated:
        if key not in route[-1].takes:
            known = ", ".join(sorted(route[-1].takes)) or "none"
            raise RouteError(f"{target.id}: {route[-1].id} has no option `{key}`; it has {known}")
    planned: list[Planned] = []
    for step in route:
        last = step is route[-1]
        planned.append(
            Planned(
                id=target.id if last else step.target.id,
                step=step,
                options=target.options if last else Options(),
                after=planned[-1].id if planned else None,
            )
        )
    return tuple(planned)


def _identity(item: Planned) -> str:
    """The same for passes that would make the same model."""
    return f"{item.step.id} {json.dumps(item.options.params(), sort_keys=True)}"
