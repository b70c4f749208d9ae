"""Counts one loaded release's predictions, cheaply, and hands them over as a window."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from datetime import UTC, datetime

from device_sdk.records import Slot
from ota_contract.names import ModelName
from ota_contract.report import AnsweredBy, FallbackCause, Report, Window

__all__ = ["Counts"]


class Counts:
    """Counters since the last window; safe to use from several threads."""

    def __init__(self) -> None:
        """Begin at zero, now."""
        self._lock = threading.Lock()
        self._began = datetime.now(UTC)
        self._live = 0
        self._errors = 0
        self._answered: Counter[AnsweredBy] = Counter()
        self._causes: Counter[FallbackCause] = Counter()

    def answered_live(self) -> None:
        """The release itself answered."""
        with self._lock:
            self._live += 1

    def fell_back(self, cause: FallbackCause, answered_by: AnsweredBy | None) -> None:
        """The release did not answer; `answered_by` is who did, None if nobody."""
        with self._lock:
            self._causes[cause] += 1
            if answered_by is not None:
                self._answered[answered_by] += 1
            if cause in (FallbackCause.ERROR, FallbackCause.INVALID_OUTPUT):
                self._errors += 1

    def give_back(self, report: Report) -> None:
        """Count what `take` gave once more: it could not be kept."""
        window = report.content
        if not isinstance(window, Window):
            return
        with self._lock:
            self._began = min(self._began, window.started)
            self._live += window.answered_by.get(AnsweredBy.LIVE, 0)
            self._errors += window.errors
            self._causes.update(window.fallbacks)
            self._answered.update(
                {link: count for link, count in window.answered_by.items() if link is not AnsweredBy.LIVE}
            )

    def take(self, name: ModelName, slot: Slot) -> Report | None:
        """The counts as a report, beginning anew; None if nothing was counted."""
        now = datetime.now(UTC)
        with self._lock:
            live, errors, began = self._live, self._errors, self._began
            answered, causes = self._answered, self._causes
            if not live and not causes:
                return None
            self._live, self._errors, self._began = 0, 0, now
            self._answered, self._causes = Counter(), Counter()
        if live:
            answered[AnsweredBy.LIVE] = live
        window = Window(
            started=began,
            ended=now,
            inferences=live + sum(causes.values()),
            errors=errors,
            answered_by=dict(answered),
            fallbacks=dict(causes),
        )
        return Report(
            id=uuid.uuid4().hex,
            name=name,
            version=slot.version,
            rollout=slot.rollout,
            arm=slot.arm,
            content=window,
        )
