"""A healthy device, an attacker on its link, and what must hold after each attack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.attacks import Forger
from tests.support.devices import Device, complete
from tests.support.fleet import TestServer
from tests.support.network import Proxy

__all__ = ["Scene"]


class Scene:
    """A healthy device on 1.0.0, an attacker on its link, and a server that can move on."""

    def __init__(self, server: TestServer, proxy: Proxy, device: Device, folder: Path) -> None:
        self.server, self.proxy, self.device = server, proxy, device
        self._folder, self._copies = folder, 0

    def forge(self) -> Forger:
        """A copy of what is published now."""
        self._copies += 1
        return Forger(self.server, self._folder / f"forged-{self._copies}")

    def serve(self, forger: Forger) -> None:
        self.proxy.folder = forger.folder

    def poll(self) -> Exception | None:
        """Poll in a new process, so to speak; returns what went wrong."""
        caught: list[Exception] = []
        with self.device.agent() as agent:
            genuine = agent._note_failure

            def note(error: Exception) -> None:
                caught.append(error)
                genuine(error)

            agent._note_failure = note  # type: ignore[method-assign]
            agent.poll()
        return caught[0] if caught else None

    def is_refused(self, error: type[Exception], match: str = "", *, moves: bool = False) -> None:
        """The poll fails with exactly this error, and nothing durable has moved."""
        before = self.device.footprint()
        found = self.poll()
        assert type(found) is error, found
        assert match in str(found)
        after = self.device.footprint()
        assert after.live == before.live == "1.0.0"
        if not moves:
            assert after.state == before.state
            assert without_etag(after.record) == without_etag(before.record)
        answered = self.device.predict()
        assert (answered.answered_by, answered.release) == ("live", "1.0.0")

    def is_set_aside(self, error: type[Exception], match: str = "") -> None:
        """A genuine policy names what must not be installed: the attempt is recorded as failed, no more."""
        self.is_refused(error, match, moves=True)
        assert self.device.update == "failed"
        assert self.device.state.candidate is None

    def recovers(self) -> None:
        """With the genuine server back, the device goes on as if nothing had been."""
        self.proxy.heal()
        complete(self.server, "1.1.0")
        self.device.clock.advance(hours=7)
        assert self.poll() is None
        assert self.device.live == "1.1.0"


def without_etag(record: bytes) -> dict[str, Any]:
    """The record without what only says when to ask again."""
    values: dict[str, Any] = json.loads(record)
    for name in ("etag", "refreshed", "trusted_time"):
        values.pop(name)
    return values
