"""The phases of one conversion, each leaving its results in the working folder or as values.

Models are made and evaluated as many at a time as the machine has processors and memory for, and measured
one by one: a neighbour on another core would be part of the latency.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from converter.assembly import (
    Made,
    add_variant,
    draft_release,
    golden_file,
    judged,
    lone_package,
    measured,
    vocabulary_files,
)
from converter.caching.keys import Inputs
from converter.caching.results import Results
from converter.caching.store import ResultStore
from converter.coreml_reference.runtime import HOW
from converter.datasets import Datasets
from converter.errors import PassError, Reason
from converter.evidence import Evidence
from converter.host import Host, runs_here
from converter.jobs import Answer, Job
from converter.measurements import Key, Measurement, MeasurementCache
from converter.nodes import Format
from converter.pass_recipe import Reads
from converter.passes.measure import CODE_VERSION, THREADS
from converter.plans import Planned
from converter.progress import Progress
from converter.ranking import ranked
from converter.recipe import Overrides, Recipe
from converter.routes import Node, version_of
from converter.schedule import KNOWN, Step, run_steps
from converter.verification import Findings
from ota_contract.manifest import MANIFEST_NAME, Release, Runtime, Variant, VerificationStatus, dump_release

__all__ = ["Order", "Phases"]

_REFERENCE = "reference"
_JUDGING = (Reads.EVALUATION, Reads.GOLDEN)
_DISTRIBUTIONS = {
    Runtime.ONNX: "onnxruntime",
    Runtime.TFLITE: "ai-edge-litert",
    Runtime.COREML: "coremltools",
}
_FILES = {Format.ONNX: "model.onnx", Format.TFLITE: "model.tflite"}
"""What passes call the files they leave; an mlpackage has the model's name, which people see in Xcode."""
_HIDDEN = {Runtime.COREML: ("tensorflow", "torch")}
"""What coremltools would import for nothing, where it is installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be converted, once all of it has been accepted."""

    recipe: Recipe
    recipe_path: Path
    """Absolute, as are the paths in `overrides`: passes run in folders of their own."""
    recipe_values: Mapping[str, Any] | None
    """What the recipe holds, where there is no file of it; `recipe_path` then says where it would be."""
    overrides: Overrides
    sets: Datasets
    plan: tuple[Planned, ...]
    source: Node
    source_sha256: str
    created: datetime
    toolchain: tuple[tuple[str, str], ...]
    host: Host
    inputs: Inputs


class Phases:
    """One conversion's working folder, and the phases that fill it."""

    def __init__(self, order: Order, work: Path, progress: Progress, store: ResultStore | None) -> None:
        """Work in an empty folder, tell `progress` of every step, and take what `store` knows."""
        self._order = order
        self._results = None if store is None else Results(store, order.inputs)
        self._recipe = order.recipe
        self._work = work
        self._progress = progress
        self._draft = work / "package"
        self.evidence = Evidence(self._recipe, order.sets.evaluation, self._out(_REFERENCE))
        self.seconds: dict[str, float] = {}
        progress.begin(1 + 2 * len(order.plan))

    def make(self) -> tuple[Made, ...]:
        """Ask the source for its answers, and run every pass."""
        plan = self._order.plan
        checked = tuple(_making(item.id) for item in plan if item.step.checks_source)
        steps = [replace(self._asking_step(), after=checked)]
        steps += [self._making_step(item) for item in plan]
        answers = self._run(steps)
        return tuple(
            Made(planned=item, folder=self._out(_making(item.id)), facts=answers[_making(item.id)].facts)
            for item in plan
        )

    def draft(self, made: Sequence[Made]) -> Release:
        """Write a package of everything made, intermediate models too, so that all of it is checked."""
        self._draft.mkdir()
        golden = golden_file(self._recipe, self._order.sets, self._out(_REFERENCE), self._draft)
        release = draft_release(
            self._recipe,
            [add_variant(item, self._draft) for item in made],
            golden,
            assets=vocabulary_files(self._recipe, self._draft),
            source_sha256=self._source_sha256(made),
            created=self._order.created,
            toolchain=self._order.toolchain,
        )
        (self._draft / MANIFEST_NAME).write_bytes(dump_release(release))
        return release

    def evaluate(self, release: Release) -> Mapping[str, Findings]:
        """Run every variant on the evaluation set and the golden vectors."""
        steps = [self._evaluation(release, variant) for variant in release.variants]
        answers = self._run(steps)
        return {str(step.job.params["variant"]): self._findings(step.id, answers[step.id]) for step in steps}

    def answers(self, variant_id: str) -> Path:
        """Where the answers of a variant are that was evaluated; see `Evidence`."""
        return self._out(_evaluating(variant_id))

    def confusion(self, findings: Mapping[str, Findings]) -> dict[str, list[list[int]]]:
        """Of each variant that was compared, by id; see `Evidence.confusion`."""
        compared = [name for name, item in findings.items() if item.comparison is not None]
        tables = {name: self.evidence.confusion(self.answers(name)) for name in compared}
        return {name: table for name, table in tables.items() if table is not None}

    def examine(self, release: Release, item: Planned) -> Mapping[str, Any]:
        """Find out what each layer loses in what a planned pass makes of a model of the draft.

        Raises:
            PassError: That failed; nothing else depends on it.
        """
        variant = release.variant(item.after or "")
        limits = self._recipe.limits.timeout_s, self._recipe.search.sensitivity_s
        params = {key: value for key, value in item.params.items() if key != "layers"}
        step = self._step(
            f"examine-{item.id}",
            f"examine the layers of {item.id}",
            "sensitivity",
            {"package": self._alone(release, variant)},
            {
                "variant": variant.id,
                "maker": item.step.code,
                "params": params,
                "float": variant.precision,
                "seconds": min(limits[0] / 2, limits[1]),
            },
        )
        job = replace(
            step.job,
            hides=item.step.hides,
            needs=tuple(dict.fromkeys((*item.step.needs, _DISTRIBUTIONS[variant.runtime]))),
            reads=frozenset({Reads.CALIBRATION}),
        )
        self._progress.begin(1)
        return self._run([replace(step, job=job)])[step.id].facts

    def judge(
        self,
        release: Release,
        findings: Mapping[str, Findings],
        sets: Mapping[str, Datasets] | None = None,
    ) -> Release:
        """Give every variant its verdict.

        Args:
            release: As drafted.
            findings: Of every variant.
            sets: What variants were judged on, by id, where it is not all there is.

        Raises:
            PassError: A model on the way to a variant is not the source any more.
        """
        variants = [
            judged(
                variant,
                findings[variant.id],
                self._recipe,
                (sets or {}).get(variant.id, self._order.sets),
                where=_where(variant.runtime),
                isa=self._order.host.isa,
            )
            for variant in release.variants
        ]
        for variant in variants:
            failed = variant.verification.status is VerificationStatus.FAILED
            if failed and variant.id not in self._asked():
                maker = next(item.step for item in self._order.plan if item.id == variant.id)
                raise PassError(maker.id, Reason.PARITY, variant.verification.how)
        return replace(release, variants=tuple(variants))

    def measure(
        self, release: Release, made: Sequence[Made], cache: MeasurementCache, *, remeasure: bool
    ) -> Release:
        """Give every variant that can run here its latency and memory, one after the other."""
        makers = {item.planned.id: item for item in made}
        here = {
            item.id
            for item in release.variants
            if runs_here(item.runtime) and item.metrics.quality is not None
        }
        self._progress.begin(len(here))
        variants = []
        for variant in release.variants:
            if variant.id not in here:
                variants.append(variant)
                continue
            key = _key(variant, self._order.host)
            found = None if remeasure else cache.find(key)
            if found is None:
                found = self._measure(variant)
                cache.keep(key, found)
            else:
                self._progress.started(f"measure {variant.id}")
                self._progress.finished(f"measure {variant.id}", 0.0, KNOWN)
            variants.append(
                measured(variant, makers[variant.id], found, threads=THREADS, host=self._order.host.cpu)
            )
        return replace(release, variants=tuple(variants))

    def finish(self, release: Release, package: Path) -> Release:
        """Copy what was asked for into the package, and rank it."""
        asked = self._asked()
        variants = ranked(variant for variant in release.variants if variant.id in asked)
        for variant in variants:
            shutil.copytree(self._draft / "variants" / variant.id, package / "variants" / variant.id)
        for file in (release.golden.file, *release.assets):
            (package / file.path).parent.mkdir(exist_ok=True)
            shutil.copyfile(self._draft / file.path, package / file.path)
        return replace(release, variants=variants)

    def _asking_step(self) -> Step:
        step = self._step(_REFERENCE, "ask the source model", _REFERENCE)
        # What opens the source for a pass opens it here.
        openers = [item.step for item in self._order.plan if item.after is None]
        needs = tuple(sorted({name for opener in openers for name in opener.needs}))
        hides = tuple(sorted(set.intersection(*(set(opener.hides) for opener in openers))))
        job = replace(step.job, needs=needs, hides=hides, reads=frozenset({Reads.SOURCE, *_JUDGING}))
        return replace(step, job=job)

    def _making_step(self, item: Planned) -> Step:
        inputs = {} if item.after is None else {"model": self._file(item)}
        source = self._order.source.id if item.after is None else item.after
        shown = f"{source} → {item.id}"
        step = self._step(_making(item.id), shown, item.step.code, inputs, dict(item.params))
        after = () if item.after is None else (_making(item.after),)
        reads = {Reads.SOURCE} if item.after is None else set()
        reads |= {Reads.CALIBRATION} if item.step.calibrated else set()
        job = replace(step.job, hides=item.step.hides, needs=item.step.needs, reads=frozenset(reads))
        return replace(step, job=job, after=after)

    def _evaluation(self, release: Release, variant: Variant) -> Step:
        # All it depends on, and nothing else: a result that is known holds whatever else is in the release.
        step = self._step(
            _evaluating(variant.id),
            f"evaluate {variant.id}",
            "evaluate",
            {"package": self._alone(release, variant), "reference": self._out(_REFERENCE)},
            {"variant": variant.id},
        )
        job = replace(
            step.job,
            hides=_HIDDEN.get(variant.runtime, ()),
            needs=(_DISTRIBUTIONS[variant.runtime],),
            reads=frozenset(_JUDGING),
        )
        return replace(step, job=job)

    def _alone(self, release: Release, variant: Variant) -> Path:
        package = self._work / f"alone-{variant.id}"
        if not package.is_dir():
            lone_package(release, variant, self._draft, package)
        return package

    def _measure(self, variant: Variant) -> Measurement:
        step = self._step(
            f"measure-{variant.id}",
            f"measure {variant.id}",
            "measure",
            {"package": self._draft},
            {"variant": variant.id},
        )
        # Without results: measurements are remembered apart, by a key of their own.
        answers, seconds = run_steps([step], limits=self._recipe.limits, progress=self._progress, at_once=1)
        self.seconds.update(seconds)
        facts = answers[step.id].facts
        return Measurement(
            p50_us=facts["p50_us"],
            p99_us=facts["p99_us"],
            runs=facts["runs"],
            resident_bytes=facts["resident_bytes"],
        )

    def _findings(self, step_id: str, answer: Answer) -> Findings:
        facts = answer.facts
        return Findings(
            comparison=self.evidence.compare(self._out(step_id)) if "max_abs" in facts else None,
            max_abs=facts.get("max_abs", {}),
            placement=facts.get("placement", {}),
            scale=facts.get("scale", {}),
            golden_max_abs=facts.get("golden_max_abs", {}),
            batch_max_abs=facts.get("batch_max_abs", 0.0),
            failure=facts["failure"],
            not_run=facts.get("not_run", ""),
        )

    def _run(self, steps: Sequence[Step]) -> Mapping[str, Answer]:
        answers, seconds = run_steps(
            steps, limits=self._recipe.limits, progress=self._progress, results=self._results
        )
        self.seconds.update(seconds)
        return answers

    def _step(
        self,
        step_id: str,
        shown: str,
        name: str,
        inputs: Mapping[str, Path] | None = None,
        params: Mapping[str, object] | None = None,
    ) -> Step:
        job = Job(
            name=name,
            folder=self._work / step_id,
            recipe_path=self._order.recipe_path,
            recipe_values=self._order.recipe_values,
            overrides=self._order.overrides,
            inputs=inputs or {},
            params=params or {},
        )
        return Step(id=step_id, shown=shown, job=job)

    def _source_sha256(self, made: Sequence[Made]) -> str:
        """Of the source's file, or of all its files where a pass had to open it to know them."""
        told = (str(item.facts["source_sha256"]) for item in made if "source_sha256" in item.facts)
        return next(told, self._order.source_sha256)

    def _asked(self) -> set[str]:
        return {target.id for target in self._recipe.targets}

    def _out(self, step_id: str) -> Path:
        return self._work / step_id / "out"

    def _file(self, item: Planned) -> Path:
        """The model a pass reads, where another has left it."""
        folder = self._out(_making(item.after or item.id))
        name = _FILES.get(item.step.source.format, f"{self._recipe.name.model}.mlpackage")
        return folder / name


def _evaluating(variant_id: str) -> str:
    return f"evaluate-{variant_id}"


def _making(model_id: str) -> str:
    return f"make-{model_id}"


def _key(variant: Variant, host: Host) -> Key:
    return Key(
        model_sha256=variant.model_file.sha256,
        runtime=variant.runtime.value,
        runtime_version=version_of(_DISTRIBUTIONS[variant.runtime]) or "",
        threads=THREADS,
        cpu=host.cpu,
        code_version=CODE_VERSION,
    )


def _where(runtime: Runtime) -> str:
    if not runs_here(runtime):
        return HOW
    distribution = _DISTRIBUTIONS[runtime]
    return f"{distribution} {version_of(distribution)}"
