"""The devices of the demonstration at work: one process holds most, three are processes of their own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from demo.devices import Device, Site, write_device
from demo.errors import StepError
from demo.processes import Children, Speaker

__all__ = ["Field"]

_LOOK_EVERY_S = 0.5


class Field:
    """Every device, wherever it runs."""

    def __init__(
        self,
        children: Children,
        folder: Path,
        commands: Mapping[str, Path],
        *,
        site: Site,
        inputs: Path,
        devices: list[Device],
        processes: int,
    ) -> None:
        """Write every device's folder and start them; the last `processes` run `ferry-device`."""
        self._children = children
        self._ferry_device = commands["ferry-device"]
        self._model = site.model
        self.ids = [device.id for device in devices]
        configs = {device.id: write_device(device, site, folder / device.id) for device in devices}
        apart = devices[len(devices) - processes :]
        self._apart = {device.id: configs[device.id] for device in apart}
        folders = [path.parent for key, path in configs.items() if key not in self._apart]
        self._fleet: Speaker = children.start(
            "fleet", commands["python"], "-m", "demo.fleet", inputs, *folders
        )
        self._fleet.listen()
        for key, config in self._apart.items():
            children.start(
                f"ferry-device {key}",
                self._ferry_device,
                "run",
                "--config",
                config,
                "--feed",
                inputs,
                "--feed-rate",
                "6",
            )

    def status(self) -> dict[str, dict[str, Any]]:
        """What each device says of itself."""
        return {**self._fleet.ask(do="status"), **self._status_apart()}

    def live(self, status: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Version live on each device; empty where there is none."""
        return {key: (self._state(value)["live"] or {}).get("version", "") for key, value in status.items()}

    def slots(self, status: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """What each device holds: the state that must not move under an attack."""
        return {
            key: {slot: self._state(value)[slot] for slot in ("live", "previous")}
            for key, value in status.items()
        }

    def lose_model(self, device_id: str) -> Mapping[str, Any]:
        """Let a device of the fleet lose what it has installed, and ask it something at once."""
        return self._fleet.ask(do="lose_model", device=device_id)

    def keep(self) -> None:
        """Let the fleet run on when the demonstration ends."""
        self._fleet.tell(do="keep")

    def wait(
        self, what: str, reached: Callable[[Mapping[str, Mapping[str, Any]]], int], *, within_s: float
    ) -> Iterator[int]:
        """Look until as many devices as there are have reached something; yields how many have.

        Raises:
            StepError: Not all of them did in time.
        """
        deadline = time.monotonic() + within_s
        while True:
            count = reached(self._fleet.ask(do="status"))
            if count == len(self.ids) - len(self._apart):
                # Each of these costs a process to ask, so the fleet is waited for first.
                count += reached(self._status_apart())
            yield count
            if count == len(self.ids):
                return
            if time.monotonic() > deadline:
                raise StepError(f"{what}: only {count} of {len(self.ids)} devices after {within_s:g} s")
            time.sleep(_LOOK_EVERY_S)

    def _status_apart(self) -> dict[str, dict[str, Any]]:
        status: dict[str, dict[str, Any]] = {}
        for key, config in self._apart.items():
            text = self._children.run(
                f"status {key}", self._ferry_device, "status", "--config", config, "--json"
            )
            status[key] = json.loads(text)
        return status

    def _state(self, status: Mapping[str, Any]) -> Mapping[str, Any]:
        state: Mapping[str, Any] = status["models"][self._model]
        return state
