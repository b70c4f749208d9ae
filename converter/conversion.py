"""Converts a source model into a package: the whole way from recipe to folder.

The order is data's and the checks': refuse what can be refused before anything is opened, make all
files, run what can be run, measure in peace, then write. Until the last line nothing that was there
before has changed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from converter.assembly import created_at
from converter.caching.keys import Inputs, inputs_state
from converter.caching.store import ResultStore, cache_folder, default_limit_bytes
from converter.datasets import load_datasets
from converter.errors import RouteError
from converter.host import this_host
from converter.measurements import MeasurementCache, default_cache
from converter.package_folder import check_output, staged_package
from converter.phases import Order, Phases
from converter.plans import plan
from converter.progress import Progress, Silent
from converter.recipe import Overrides, load_recipe
from converter.report import dump_report
from converter.reporting.files import write_reports
from converter.routes import check_installed, source_node
from converter.source_file import check_source
from converter.toolchain import toolchain
from ota_contract.manifest import (
    MANIFEST_NAME,
    Release,
    Runtime,
    Variant,
    VerificationStatus,
    dump_release,
)

__all__ = ["Conversion", "convert"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """A package that was written."""

    package: Path
    release: Release
    seconds: Mapping[str, float]
    """What each step took."""

    @property
    def failed(self) -> tuple[Variant, ...]:
        """Variants that do not keep to the recipe's goal; in the package, and never chosen."""
        return tuple(
            variant
            for variant in self.release.variants
            if variant.verification.status is VerificationStatus.FAILED
        )

    @property
    def unserved(self) -> tuple[Runtime, ...]:
        """Runtimes all of whose variants failed: a device with no other gets nothing."""
        failed = {variant.id for variant in self.failed}
        served = {variant.runtime for variant in self.release.variants if variant.id not in failed}
        asked = {variant.runtime for variant in self.release.variants}
        return tuple(sorted(asked - served, key=lambda runtime: runtime.value))


def convert(
    recipe_path: Path,
    output: Path,
    *,
    overrides: Overrides | None = None,
    remeasure: bool = False,
    command: str = "",
    progress: Progress | None = None,
    cache: MeasurementCache | None = None,
    results: bool = True,
) -> Conversion:
    """Convert a model; on return the package is at `output`, whole.

    Args:
        recipe_path: The recipe.
        output: Folder of the package. An older package there is replaced; anything else is refused.
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
    order = _accepted(recipe_path, output, overrides or Overrides(), command)
    store = _store() if results else None
    with (
        tempfile.TemporaryDirectory(prefix="ferry-convert-", ignore_cleanup_errors=True) as work,
        staged_package(output) as package,
        progress or Silent() as told,
    ):
        phases = Phases(order, Path(work).resolve(), told, store)
        made = phases.make()
        draft = phases.draft(made)
        findings = phases.evaluate(draft)
        release = phases.judge(draft, findings)
        known = cache or default_cache(os.environ)
        release = phases.measure(release, made, known, remeasure=remeasure)
        release = phases.finish(release, package)
        report = dump_report(order, release, made, findings, worth=phases.evidence.source)
        write_reports(package, release, report)
        (package / MANIFEST_NAME).write_bytes(dump_release(release))
    if store is not None:
        store.trim()
    return Conversion(package=output, release=release, seconds=phases.seconds)


def _store() -> ResultStore:
    return ResultStore(cache_folder(os.environ), limit_bytes=default_limit_bytes(os.environ))


def _accepted(recipe_path: Path, output: Path, overrides: Overrides, command: str) -> Order:
    """Refuse everything that can be refused before a pass runs."""
    recipe = load_recipe(recipe_path, overrides)
    if recipe.searches:
        raise RouteError(f"{recipe.shown}: {recipe.searches[0].id}: this version does not search")
    source = source_node(recipe.framework)
    planned = plan(recipe.targets, start=source)
    passes = tuple(item.step for item in planned)
    check_installed(passes)
    check_output(output)
    source_sha256 = check_source(recipe)
    state = inputs_state(recipe)  # before anything is read that results will be remembered by
    sets = load_datasets(recipe)
    return Order(
        recipe=recipe,
        recipe_path=recipe_path.resolve(),
        overrides=_absolute(overrides),
        source_sha256=source_sha256,
        sets=sets,
        plan=planned,
        source=source,
        created=created_at(recipe.source, os.environ),
        toolchain=toolchain(recipe, passes, command),
        host=this_host(),
        inputs=Inputs(recipe, sets, state),
    )


def _absolute(overrides: Overrides) -> Overrides:
    return replace(
        overrides,
        source=overrides.source and overrides.source.resolve(),
        data=overrides.data and overrides.data.resolve(),
    )
