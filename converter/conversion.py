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
from converter.host import this_host
from converter.measurements import MeasurementCache, default_cache
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
    proofs: tuple[str, ...] = ()
    """Of each variant that was compared, what the evaluation samples allow to say of the budget."""
    slow: tuple[str, ...] = ()
    """Of each variant that is slower than float, how much."""
    unmet: tuple[str, ...] = ()
    """Searches that found nothing within the budget; what they found at best is in the package, as failed."""

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
    return Conversion(
        package=output,
        release=release,
        seconds=phases.seconds,
        proofs=proofs(order.recipe, findings),
        slow=slow,
        unmet=tuple(item.search.id for item in found if not item.met),
    )


def _store() -> ResultStore:
    return ResultStore(cache_folder(os.environ), limit_bytes=default_limit_bytes(os.environ))


def _accepted(recipe_path: Path, output: Path, overrides: Overrides, command: str) -> Order:
    """Refuse everything that can be refused before a pass runs."""
    recipe = load_recipe(recipe_path, overrides)
    source = source_node(recipe.framework)
    planned = plan(recipe.targets, start=source)
    passes = tuple(item.step for item in planned)
    check_installed(passes)
    check_output(output)
    source_sha256 = check_source(recipe)
    state = inputs_state(recipe)  # before anything is read that results will be remembered by
    sets = load_datasets(recipe)
    order = Order(
        recipe=recipe,
        recipe_path=recipe_path.resolve(),
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
