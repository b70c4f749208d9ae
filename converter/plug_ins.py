"""Passes that other distributions bring, found by entry point; what a plug-in needs is imported from here.

    [project.entry-points."edge_ferry.passes"]
    rounding = "ferry_rounding.passes:PASSES"

The object is a `Pass` or a sequence of them. Its module is imported when routes are planned, so it must
import no framework; the module a pass names is imported in that pass's process alone. `docs/plug-ins.md` is
the guide.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache

from converter.errors import PassError, Reason, RouteError
from converter.jobs import Job
from converter.nodes import Format, Node, Pass
from converter.passes.telling import counted
from converter.variants import Precision

__all__ = [
    "GROUP",
    "Format",
    "Job",
    "Node",
    "Pass",
    "PassError",
    "Precision",
    "Reason",
    "counted",
    "plug_in_passes",
]

GROUP = "edge_ferry.passes"
_ID = re.compile(r"[a-z][a-z0-9_]{0,62}")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_OURS = "converter"


@cache
def plug_in_passes() -> tuple[Pass, ...]:
    """Every pass of every installed plug-in, by the names of their entry points.

    Raises:
        RouteError: A plug-in cannot be loaded, or what it brings is no pass; the message names it.
    """
    found: dict[str, Pass] = {}
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda entry: entry.name):
        distribution = entry.dist.name if entry.dist is not None else ""
        shown = f"plug-in {entry.name} of {distribution or 'an unknown distribution'}"
        for step in _loaded(entry, shown):
            _check(step, shown)
            if step.id in found:
                raise RouteError(f"{shown}: there is a pass {step.id} already")
            # Its own version is part of what a result depends on, and of what the manifest records.
            needs = tuple(dict.fromkeys([*step.needs, *filter(None, [distribution])]))
            found[step.id] = replace(step, needs=needs)
    return tuple(found.values())


def _loaded(entry: importlib.metadata.EntryPoint, shown: str) -> Iterator[Pass]:
    try:
        value = entry.load()
    except Exception as error:  # somebody else's module may raise anything
        why = " ".join(str(error).split()) or "no message"
        raise RouteError(f"{shown} cannot be loaded: {type(error).__name__}: {why}") from error
    items = [value] if isinstance(value, Pass) or not isinstance(value, Iterable) else list(value)
    for item in items:
        if not isinstance(item, Pass):
            raise RouteError(f"{shown}: {entry.value} holds a {type(item).__name__}, not a Pass")
        yield item


def _check(step: Pass, shown: str) -> None:
    if not _ID.fullmatch(step.id):
        raise RouteError(f"{shown}: pass id {step.id!r}: use lower-case letters, digits and underscores")
    if not _MODULE.fullmatch(step.module) or step.module.partition(".")[0] == _OURS:
        raise RouteError(f"{shown}: pass {step.id}: `module` must name a module in a package of its own")
    if step.target.format.runtime is None:
        raise RouteError(f"{shown}: pass {step.id} ends in {step.target.format.value}, which no device runs")
    try:
        there = importlib.util.find_spec(step.module.partition(".")[0])
    except (ImportError, ValueError):
        there = None
    if there is None:
        raise RouteError(f"{shown}: pass {step.id}: {step.module} is not there")
