"""Runs jobs that wait for one another, a few at a time, and ends all when one fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from converter.errors import PassError, Reason
from converter.jobs import Answer, Job
from converter.processes import keep_log, run_job
from converter.progress import Progress
from converter.recipe import Limits

__all__ = ["Step", "run_steps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A job, and the steps whose files it reads."""

    id: str
    shown: str
    job: Job
    after: tuple[str, ...] = ()


def run_steps(
    steps: Sequence[Step], *, at_once: int, limits: Limits, progress: Progress
) -> tuple[Mapping[str, Answer], Mapping[str, float]]:
    """Run every step; returns the answers and the seconds each took.

    Raises:
        PassError: The first that failed; every other process is gone.
    """
    cancelled = threading.Event()
    answers: dict[str, Answer] = {}
    seconds: dict[str, float] = {}
    waiting, running = list(steps), dict[Future[tuple[Answer, float]], Step]()
    with ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="pass") as pool:
        try:
            while waiting or running:
                for step in [step for step in waiting if all(name in answers for name in step.after)]:
                    waiting.remove(step)
                    running[pool.submit(_run, step, limits, cancelled, progress)] = step
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    step = running.pop(future)
                    answers[step.id], seconds[step.id] = future.result()
        except BaseException as error:  # Ctrl-C, too: the threads end their processes before this is left
            cancelled.set()
            for future in running:
                future.cancel()
            if isinstance(error, PassError):
                raise keep_log(error) from error
            raise
    return answers, seconds


def _run(step: Step, limits: Limits, cancelled: threading.Event, progress: Progress) -> tuple[Answer, float]:
    if cancelled.is_set():
        raise PassError(step.id, Reason.CANCELLED, "another pass failed")
    begun = time.monotonic()
    progress.started(step.shown)
    answer = run_job(step.job, limits=limits, cancelled=cancelled)
    seconds = time.monotonic() - begun
    progress.finished(step.shown, seconds)
    return answer, seconds
