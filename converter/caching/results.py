"""Finds the results of jobs that ran before, and keeps those of jobs that run now."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from converter.caching.keys import Inputs, covers, key_of
from converter.caching.store import ResultStore
from converter.jobs import Answer, Job

__all__ = ["Results", "Sought"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """What came of looking for a job's result."""

    key: str
    """Empty where the job cannot be told from others; its result is not kept."""
    answer: Answer | None


class Results:
    """The store, seen from one conversion; called from several threads."""

    def __init__(self, store: ResultStore, inputs: Inputs) -> None:
        """Look in `store`, by what the conversion's `inputs` are."""
        self._store = store
        self._inputs = inputs

    def find(self, job: Job) -> Sought:
        """A job's result, with its files in the job's folder, which must not exist."""
        try:
            key = key_of(job, self._inputs)
        except (OSError, TypeError):
            return Sought(key="", answer=None)
        job.out.mkdir(parents=True)
        facts = self._store.find(key, job.out)
        if facts is None:
            with contextlib.suppress(OSError):
                job.out.rmdir()
                job.folder.rmdir()
            return Sought(key=key, answer=None)
        return Sought(key=key, answer=Answer(facts=facts))

    def keep(self, sought: Sought, job: Job, answer: Answer) -> None:
        """Remember a result; not one of a failure, nor one whose key may not tell all it depends on."""
        failed = answer.reason is not None or bool(answer.facts.get("failure"))
        if sought.key and not failed and covers(job, answer.modules) and self._inputs.unchanged:
            self._store.keep(sought.key, job.name, answer.facts, job.out)
