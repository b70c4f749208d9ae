"""Lets a pass say how far it is, for the bar people look at."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from converter.jobs import Job, Point, write_point

__all__ = ["counted"]

_EVERY_S = 0.2

_T = TypeVar("_T")


def counted(job: Job, items: Iterable[_T], *, total: int, what: str) -> Iterator[_T]:
    """The items, saying now and then how many are done.

    Args:
        job: Whose pass this is.
        items: What is worked on, one after the other.
        total: How many there will be.
        what: What they are, in the plural.
    """
    said = 0.0
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - said > _EVERY_S:
            write_point(job.folder, Point(what=what, done=done, total=total))
            said = now
        yield item
