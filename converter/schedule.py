"""Runs jobs that wait for one another, as many at a time as fit this machine, and ends all when one fails.

A job takes one processor, and as much memory as the recipe's limit allows it; one alone is always let in.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from converter.caching.results import Results
from converter.errors import PassError, Reason
from converter.jobs import Answer, Job
from converter.processes import keep_log, run_job
from converter.progress import Progress
from converter.recipe import Limits
from converter.resources import available_bytes, processors

__all__ = ["KNOWN", "Step", "places", "run_steps"]

KNOWN = "known from before"
"""The note of a step that did not have to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A job, and the steps whose files it reads."""

    id: str
    shown: str
    job: Job
    after: tuple[str, ...] = ()


def places(limits: Limits) -> int:
    """How many jobs fit this machine now, by processors and by what each may take of memory."""
    free = available_bytes()
    by_memory = processors() if free is None else free // max(1, limits.memory_bytes)
    return max(1, min(processors(), by_memory))


def run_steps(
    steps: Sequence[Step],
    *,
    limits: Limits,
    progress: Progress,
    results: Results | None = None,
    at_once: int | None = None,
) -> tuple[Mapping[str, Answer], Mapping[str, float]]:
    """Run every step; returns the answers and the seconds each took.

    Args:
        steps: What to run.
        limits: Of each.
        progress: Told of each.
        results: What is known from before, and remembers what is made now.
        at_once: How many to run side by side; as many as fit by default.

    Raises:
        PassError: The first that failed; every other process is gone.
    """
    run = _Run(limits, progress, results)
    answers: dict[str, Answer] = {}
    seconds: dict[str, float] = {}
    waiting, running = list(steps), dict[Future[tuple[Answer, float]], Step]()
    with ThreadPoolExecutor(max_workers=at_once or places(limits), thread_name_prefix="pass") as pool:
        try:
            while waiting or running:
                for step in [step for step in waiting if all(name in answers for name in step.after)]:
                    waiting.remove(step)
                    running[pool.submit(run.step, step)] = step
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    step = running.pop(future)
                    answers[step.id], seconds[step.id] = future.result()
        except BaseException as error:  # Ctrl-C, too: the threads end their processes before this is left
            run.cancelled.set()
            for future in running:
                future.cancel()
            if isinstance(error, PassError):
                raise keep_log(error) from error
            raise
    return answers, seconds


class _Run:
    """What the threads of one run share."""

    def __init__(self, limits: Limits, progress: Progress, results: Results | None) -> None:
        self.cancelled = threading.Event()
        self._limits = limits
        self._progress = progress
        self._results = results

    def step(self, step: Step) -> tuple[Answer, float]:
        """Run a step, or find what came of it before; the answer and the seconds it took."""
        if self.cancelled.is_set():
            raise PassError(step.id, Reason.CANCELLED, "another pass failed")
        begun = time.monotonic()
        self._progress.started(step.shown)
        sought = self._results.find(step.job) if self._results else None
        answer, note = sought.answer if sought else None, KNOWN
        if answer is None:
            note = ""
            answer = run_job(
                step.job,
                limits=self._limits,
                cancelled=self.cancelled,
                told=lambda point: self._progress.advanced(step.shown, point),
            )
            if self._results and sought:
                self._results.keep(sought, step.job, answer)
        seconds = time.monotonic() - begun
        self._progress.finished(step.shown, seconds, note)
        return answer, seconds
