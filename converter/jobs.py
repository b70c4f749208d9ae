"""The files by which the converter and the process of one pass talk.

A job is a folder: `job.json` says what to do, the pass writes its files into `out/` and its answer
into `result.json`; everything its tools print is `log.txt`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.errors import Reason
from converter.recipe import Overrides, Recipe, load_recipe

__all__ = ["Answer", "Job", "read_answer", "read_job", "write_answer", "write_job"]

_JOB, _RESULT = "job.json", "result.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the process of one pass is told."""

    name: str
    """The module in `converter.passes`."""
    folder: Path
    recipe_path: Path
    overrides: Overrides
    inputs: Mapping[str, Path]
    """Files and folders made before, by what they are."""
    params: Mapping[str, Any]
    hides: tuple[str, ...] = ()
    """Packages that are not to be imported."""

    @property
    def out(self) -> Path:
        """Where the pass writes."""
        return self.folder / "out"

    @property
    def log(self) -> Path:
        """Where everything it prints goes."""
        return self.folder / "log.txt"

    def recipe(self) -> Recipe:
        """The recipe, parsed again in this process."""
        return load_recipe(self.recipe_path, self.overrides)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a pass found, or why it failed."""

    facts: Mapping[str, Any]
    reason: Reason | None = None
    message: str = ""


def write_job(job: Job) -> None:
    """Create the job's folders and its file."""
    job.out.mkdir(parents=True)
    overrides = job.overrides
    value = {
        "name": job.name,
        "recipe": str(job.recipe_path),
        "version": overrides.version,
        "counter": overrides.counter,
        "source": _text(overrides.source),
        "data": _text(overrides.data),
        "inputs": {key: str(path) for key, path in job.inputs.items()},
        "params": dict(job.params),
        "hides": job.hides,
    }
    (job.folder / _JOB).write_text(json.dumps(value))


def read_job(folder: Path) -> Job:
    """The job of a folder our own parent process wrote."""
    value = json.loads((folder / _JOB).read_text())
    return Job(
        name=value["name"],
        folder=folder,
        recipe_path=Path(value["recipe"]),
        overrides=Overrides(
            version=value["version"],
            counter=value["counter"],
            source=_path(value["source"]),
            data=_path(value["data"]),
        ),
        inputs={key: Path(path) for key, path in value["inputs"].items()},
        params=value["params"],
        hides=tuple(value["hides"]),
    )


def write_answer(folder: Path, answer: Answer) -> None:
    """Leave the answer for the parent process; it is whole or not there."""
    value = {
        "facts": dict(answer.facts),
        "reason": answer.reason.value if answer.reason else None,
        "message": answer.message,
    }
    partial = folder / f"{_RESULT}.part"
    partial.write_text(json.dumps(value))
    partial.replace(folder / _RESULT)


def read_answer(folder: Path) -> Answer | None:
    """The answer, or None where the process died before giving one."""
    try:
        value = json.loads((folder / _RESULT).read_text())
    except (OSError, ValueError):
        return None
    reason = Reason(value["reason"]) if value["reason"] else None
    return Answer(facts=value["facts"], reason=reason, message=value["message"])


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
