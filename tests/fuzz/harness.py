"""What holds for every target: Ferry's own errors alone, in bounded time and bounded memory."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
import tracemalloc
from dataclasses import dataclass

from ota_contract.errors import FerryError
from tests.fuzz.targets import PromiseBrokenError, Target

__all__ = ["BYTES", "BYTES_PER_BYTE", "SECONDS", "Harness"]

SECONDS = 2.0
"""Processor time for one input. Instrumented code takes about three times as long as on a device."""
BYTES_PER_BYTE = 64
BYTES = 4 * 1024 * 1024
_WEIGH_EVERY = 8
"""Measuring memory costs half the speed; RLIMIT_AS stops what no single measurement would meet."""
_SHOWN_BYTES = 4096


@dataclass(slots=True)
class Harness:
    """Runs a target on inputs and judges it."""

    target: Target
    weigh_every: int = _WEIGH_EVERY
    _runs: int = 0

    def check(self, data: bytes) -> None:
        """Run one input.

        Raises:
            Exception: Whatever the target should not have raised; the input was printed.
        """
        self._runs += 1
        try:
            self._check(data, weigh=self._runs % self.weigh_every == 0)
        except BaseException as error:
            dots = "…" if len(data) > _SHOWN_BYTES else ""
            sys.stderr.write(
                f"FOUND {type(error).__name__}: {error!s:.500}\n{traceback.format_exc(limit=-6)}"
                f"{len(data)} bytes: {data[:_SHOWN_BYTES].hex()}{dots}\n"
                f"as text: {data[:_SHOWN_BYTES]!r}{dots}\n"
            )
            sys.stderr.flush()
            raise

    def _check(self, data: bytes, *, weigh: bool) -> None:
        if weigh:
            tracemalloc.start()
        began = time.process_time()
        try:
            with contextlib.suppress(FerryError):
                self.target.run(data)
        finally:
            spent = time.process_time() - began
            peak = tracemalloc.get_traced_memory()[1] if weigh else 0
            tracemalloc.stop()
        if spent > SECONDS:
            raise PromiseBrokenError(f"it took {spent:.1f} s")
        if peak > BYTES_PER_BYTE * len(data) + BYTES:
            raise PromiseBrokenError(f"it took {peak} bytes of memory")
