"""Whether signatures are kept fresh, remembered between two turns of the reconciler.

What the server signs it renews by itself, and says when it cannot. What only people can sign it watches,
and says once a day that it will expire.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from ota_server.domain.expiry import expiry_warning

__all__ = ["SigningHealth"]

_LOG = logging.getLogger("ferry.server")
_EVERY = timedelta(days=1)


class SigningHealth:
    """Counts failures of signing, and warns of expiry."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._warned: datetime | None = None
        self.failures = 0
        """Turns in which something that was due could not be signed."""
        self.failing = False
        """Whether the last turn was one of them."""

    def failed(self) -> None:
        """Something that was due could not be signed."""
        with self._lock:
            self.failures += 1
            self.failing = True

    def succeeded(self) -> None:
        """Everything that was due is signed."""
        with self._lock:
            if self.failing:
                _LOG.warning("signing works again")
            self.failing = False

    def warn(self, expiries: Callable[[], Mapping[str, datetime]], now: datetime) -> None:
        """Log what expires before long, once a day; `expiries` is asked for as rarely."""
        with self._lock:
            # A clock that was set back must not silence the warnings for as long as it had been ahead.
            if self._warned is not None and abs(now - self._warned) < _EVERY:
                return
            self._warned = now
        for role, expires in expiries().items():
            text = expiry_warning(role, expires, now)
            if text:
                _LOG.warning("%s", text)
