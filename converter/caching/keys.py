"""The key of a pass's result: SHA-256 of everything the result depends on.

A job's parameters and inputs, the recipe and the files of it that the pass may read, the code it runs, what
is installed, and the CPU. `docs/adr/0009-results-are-remembered.md` says why each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from converter.caching.code import code_digest, modules_of
from converter.caching.environment import environment_of
from converter.caching.sources import State, digest_tree, files_of_source, state_of
from converter.datasets import Datasets
from converter.jobs import Job
from converter.pass_recipe import Reads, recipe_for, withheld
from converter.processes import job_environment
from converter.recipe import Recipe

__all__ = ["Inputs", "covers", "inputs_state", "key_of", "plain"]

_RUNNER = "converter.pass_process"
_BY_CONTENT = ("source", "data")
"""Fields of a recipe whose files are digested, so that where they lie does not count."""
_SHOWN = ("shown", "made_by")
"""Fields that only error messages hold, and errors are not remembered."""


class Inputs:
    """The recipe of one conversion and the files it names, digested once."""

    def __init__(self, recipe: Recipe, sets: Datasets, state: Mapping[Path, State | None]) -> None:
        """Take a recipe and its sets.

        Args:
            recipe: What is converted.
            sets: Its data, read after `state` was taken.
            state: Of `inputs_state`, before anything was read.
        """
        self.recipe = recipe
        self._sets = sets
        self._state = state
        self._source: str | None = None
        self._data: dict[Reads, str] = {}

    @property
    def unchanged(self) -> bool:
        """Whether the files are still those that were digested: nobody wrote to one meanwhile."""
        return state_of(self._state) == self._state

    def digest(self, which: Reads) -> str:
        """SHA-256 of the source's files, or of a data set's values."""
        if which is Reads.SOURCE:
            if self._source is None:
                source = self.recipe.source
                root = source if source.is_dir() else source.parent
                self._source = digest_tree(files_of_source(source), root)
            return self._source
        if which not in self._data:
            self._data[which] = self._sets.loaded[which.value].sha256()
        return self._data[which]


def inputs_state(recipe: Recipe) -> Mapping[Path, State | None]:
    """The present state of all files a recipe names."""
    data = recipe.data
    return state_of((*files_of_source(recipe.source), data.calibration, data.evaluation, data.golden))


def key_of(job: Job, inputs: Inputs) -> str:
    """The key a job's result is kept under, as 64 hexadecimal digits.

    Raises:
        OSError: A file the job reads is not there.
        TypeError: The recipe holds a value this module has no form for.
    """
    value = {
        "pass": job.name,
        "params": plain(job.params),
        "hides": sorted(job.hides),
        "recipe": _recipe(recipe_for(inputs.recipe, job.reads)),
        "files": {
            which.value: inputs.digest(which) for which in sorted(job.reads, key=lambda item: item.value)
        },
        "inputs": {name: _tree(path) for name, path in job.inputs.items()},
        "code": [code_digest(job.runs), code_digest(_RUNNER)],
        "environment": environment_of(job.needs, job_environment()),
    }
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def covers(job: Job, imported: Iterable[str]) -> bool:
    """Whether the key holds the code of every module of ours the pass came to import."""
    known = {*modules_of(job.runs), *modules_of(_RUNNER), "__main__"}
    roots = {name.partition(".")[0] for name in known}
    return all(name in known for name in imported if name.partition(".")[0] in roots)


def plain(value: Any) -> Any:  # noqa: ANN401 - any value of a recipe
    """A value as JSON has it; a path becomes the digest of what it leads to.

    Raises:
        TypeError: There is no form for it.
    """
    match value:
        case None | str() | int() | float():  # bool is an int
            form: Any = value
        case Enum():
            form = plain(value.value)
        case Path():
            form = _tree(value)
        case Mapping():
            form = {str(plain(key)): plain(item) for key, item in value.items()}
        case tuple() | list():
            form = [plain(item) for item in value]
        case set() | frozenset():
            form = sorted(json.dumps(plain(item), sort_keys=True) for item in value)
        case _ if is_dataclass(value):
            own = {item.name: plain(getattr(value, item.name)) for item in fields(value)}
            form = {"": type(value).__name__, **own}
        case _:
            raise TypeError(f"a key cannot hold a {type(value).__name__}")
    return form


def _recipe(recipe: Recipe) -> dict[str, Any]:
    left_out = (*_BY_CONTENT, *_SHOWN)
    return {
        item.name: plain(getattr(recipe, item.name)) for item in fields(recipe) if item.name not in left_out
    }


def _tree(path: Path) -> str:
    if withheld(path):
        return ""
    return digest_tree(files_of_source(path), path if path.is_dir() else path.parent)
