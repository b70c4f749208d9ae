"""The files by which the converter and the process of one pass talk.

A job is a folder: `job.json` says what to do, the pass writes its files into `out/` and its answer
into `result.json`; meanwhile it may say in `progress.json` how far it is. Everything its tools print is
`log.txt`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.errors import Reason
from converter.pass_recipe import EVERYTHING, Reads, recipe_for
from converter.recipe import Overrides, Recipe, load_recipe

__all__ = [
    "Answer",
    "Job",
    "Point",
    "read_answer",
    "read_job",
    "read_point",
    "write_answer",
    "write_job",
    "write_point",
]

_JOB, _RESULT, _POINT = "job.json", "result.json", "progress.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the process of one pass is told."""

    name: str
    """The module that does it, in `converter.passes` where it names no package."""
    folder: Path
    recipe_path: Path
    overrides: Overrides
    inputs: Mapping[str, Path]
    """Files and folders made before, by what they are."""
    params: Mapping[str, Any]
    hides: tuple[str, ...] = ()
    """Packages that are not to be imported."""
    needs: tuple[str, ...] = ()
    """Distributions it uses."""
    recipe_values: Mapping[str, Any] | None = None
    """What the recipe holds, where there is no file of it."""
    reads: frozenset[Reads] = EVERYTHING
    """Files of the recipe it may read."""

    @property
    def runs(self) -> str:
        """The module that holds its `run`."""
        return self.name if "." in self.name else f"converter.passes.{self.name}"

    @property
    def out(self) -> Path:
        """Where the pass writes."""
        return self.folder / "out"

    @property
    def log(self) -> Path:
        """Where everything it prints goes."""
        return self.folder / "log.txt"

    def recipe(self) -> Recipe:
        """The recipe, parsed again in this process, as far as it is this pass's business."""
        recipe = load_recipe(self.recipe_path, self.overrides, values=self.recipe_values)
        return recipe_for(recipe, self.reads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a pass found, or why it failed."""

    facts: Mapping[str, Any]
    reason: Reason | None = None
    message: str = ""
    fault: str = ""
    """The operator or layer of the model, where the tool named one."""
    modules: tuple[str, ...] = ()
    """Every module the process had imported at its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """How far a pass is."""

    what: str
    """What it counts, in the plural."""
    done: int
    total: int


def write_job(job: Job) -> None:
    """Create the job's folders and its file."""
    job.out.mkdir(parents=True)
    overrides = job.overrides
    value = {
        "name": job.name,
        "recipe": str(job.recipe_path),
        "values": job.recipe_values,
        "version": overrides.version,
        "counter": overrides.counter,
        "source": _text(overrides.source),
        "data": _text(overrides.data),
        "inputs": {key: str(path) for key, path in job.inputs.items()},
        "params": dict(job.params),
        "hides": job.hides,
        "needs": job.needs,
        "reads": sorted(which.value for which in job.reads),
    }
    (job.folder / _JOB).write_text(json.dumps(value))


def read_job(folder: Path) -> Job:
    """The job of a folder our own parent process wrote."""
    value = json.loads((folder / _JOB).read_text())
    return Job(
        name=value["name"],
        folder=folder,
        recipe_path=Path(value["recipe"]),
        recipe_values=value["values"],
        overrides=Overrides(
            version=value["version"],
            counter=value["counter"],
            source=_path(value["source"]),
            data=_path(value["data"]),
        ),
        inputs={key: Path(path) for key, path in value["inputs"].items()},
        params=value["params"],
        hides=tuple(value["hides"]),
        needs=tuple(value["needs"]),
        reads=frozenset(map(Reads, value["reads"])),
    )


def write_answer(folder: Path, answer: Answer) -> None:
    """Leave the answer for the parent process; it is whole or not there."""
    value = {
        "facts": dict(answer.facts),
        "reason": answer.reason.value if answer.reason else None,
        "message": answer.message,
        "fault": answer.fault,
        "modules": answer.modules,
    }
    _write_whole(folder / _RESULT, value)


def read_answer(folder: Path) -> Answer | None:
    """The answer, or None where the process died before giving one."""
    try:
        value = json.loads((folder / _RESULT).read_text())
    except (OSError, ValueError):
        return None
    reason = Reason(value["reason"]) if value["reason"] else None
    return Answer(
        facts=value["facts"],
        reason=reason,
        message=value["message"],
        fault=value["fault"],
        modules=tuple(value["modules"]),
    )


def write_point(folder: Path, point: Point) -> None:
    """Say how far the pass is."""
    _write_whole(folder / _POINT, {"what": point.what, "done": point.done, "total": point.total})


def read_point(folder: Path) -> Point | None:
    """How far the pass is, or None where it does not say."""
    try:
        value = json.loads((folder / _POINT).read_text())
        return Point(what=str(value["what"]), done=int(value["done"]), total=int(value["total"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_whole(path: Path, value: Mapping[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(json.dumps(value))
    partial.replace(path)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
