"""Converts a source model into a package: the whole way from recipe to folder.

The order is data's and the checks': refuse what can be refused before anything is opened, make all
files, run what can be run, measure in peace, then write. Until the last line nothing that was there
before has changed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from converter.assembly import created_at
from converter.caching.keys import Inputs, inputs_state
from converter.caching.store import ResultStore, cache_folder, default_limit_bytes
from converter.datasets import load_datasets
from converter.host import this_host
from converter.measurements import MeasurementCache, default_cache
from converter.package import Package
from converter.package_folder import check_output, staged_package
from converter.phases import Order, Phases
from converter.plans import plan
from converter.progress import Progress, Silent
from converter.recipe import Overrides, load_recipe
from converter.report import Learned, dump_report, proofs
from converter.reporting.files import write_reports
from converter.routes import check_installed, source_node
from converter.search.stage import (
    check_searches,
    examined,
    judged_sets,
    proven,
    search_all,
    slow_variants,
    with_found,
)
from converter.source_file import check_source
from converter.toolchain import toolchain
from ota_contract.manifest import MANIFEST_NAME, dump_release

__all__ = ["convert"]


def convert(
    recipe: Path | str | Mapping[str, Any],
    output: Path | str | None = None,
    *,
    overrides: Overrides | None = None,
    remeasure: bool = False,
    command: str = "",
    progress: Progress | None = None,
    cache: MeasurementCache | None = None,
    results: bool = True,
) -> Package:
    """Convert a model; on return the package is at `output`, whole.

    Args:
        recipe: The recipe's file, or what such a file holds as nested mappings and lists; paths in those
            are relative to the working directory.
        output: Folder of the package, `build/<model>` by default. An older package there is replaced;
            anything else is refused.
        overrides: Replace the recipe's version, counter, source or data.
        remeasure: Measure latency and memory again, also where this host knows them.
        command: Recorded in the manifest; see `converter.toolchain.command_line`.
        progress: Told of every step.
        cache: Where measurements are remembered; the user's cache by default.
        results: Whether to take what passes made before from the user's cache, and to keep what they make
            now. The package is the same either way.

    Raises:
        ConverterError: Nothing was written, and what was at `output` is still there.
    """
    order = _accepted(recipe, overrides or Overrides(), command)
    output = Path("build") / order.recipe.name.model if output is None else Path(output)
    check_output(output)
    store = _store() if results else None
    with (
        tempfile.TemporaryDirectory(prefix="ferry-convert-", ignore_cleanup_errors=True) as work,
        staged_package(output) as package,
        progress or Silent() as told,
    ):
        folder = Path(work).resolve()
        known = cache or default_cache(os.environ)
        found = search_all(order, folder, told, store, known)
        order = _ordered(with_found(order, found), command)
        phases = Phases(order, folder, told, store)
        made = phases.make()
        draft = phases.draft(made)
        findings = proven(phases.evaluate(draft), found)
        release = phases.judge(draft, findings, judged_sets(order, found))
        sensitivities = examined(phases, draft, order, found)
        release = phases.measure(release, made, known, remeasure=remeasure)
        slow = slow_variants(release)
        release = phases.finish(release, package)
        report = dump_report(
            order,
            release,
            made,
            findings,
            worth=phases.evidence.source,
            learned=Learned(
                searches=[item.record for item in found],
                sensitivity=[item.value() for item in sensitivities],
                slow=slow,
                confusion=phases.confusion(findings),
            ),
        )
        write_reports(package, release, report)
        (package / MANIFEST_NAME).write_bytes(dump_release(release))
    if store is not None:
        store.trim()
    return Package(
        path=output,
        release=release,
        seconds=phases.seconds,
        proofs=proofs(order.recipe, findings),
        slow=slow,
        unmet=tuple(item.search.id for item in found if not item.met),
    )


def _store() -> ResultStore:
    return ResultStore(cache_folder(os.environ), limit_bytes=default_limit_bytes(os.environ))


def _accepted(given: Path | str | Mapping[str, Any], overrides: Overrides, command: str) -> Order:
    """Refuse everything that can be refused before a pass runs."""
    values = given if isinstance(given, Mapping) else None
    path = Path("recipe") if isinstance(given, Mapping) else Path(given)
    recipe = load_recipe(path, overrides, values=values)
    source = source_node(recipe.framework)
    planned = plan(recipe.targets, start=source)
    passes = tuple(item.step for item in planned)
    check_installed(passes)
    source_sha256 = check_source(recipe)
    state = inputs_state(recipe)  # before anything is read that results will be remembered by
    sets = load_datasets(recipe)
    order = Order(
        recipe=recipe,
        recipe_path=path.resolve(),
        recipe_values=values,
        overrides=_absolute(overrides),
        source_sha256=source_sha256,
        sets=sets,
        plan=planned,
        source=source,
        created=created_at(recipe.source, os.environ),
        toolchain=(),
        host=this_host(),
        inputs=Inputs(recipe, sets, state),
    )
    check_searches(order)
    return _ordered(order, command)


def _ordered(order: Order, command: str) -> Order:
    """The order with the tools of its plan."""
    return replace(order, toolchain=toolchain(order.recipe, (item.step for item in order.plan), command))


def _absolute(overrides: Overrides) -> Overrides:
    return replace(
        overrides,
        source=overrides.source and overrides.source.resolve(),
        data=overrides.data and overrides.data.resolve(),
    )
