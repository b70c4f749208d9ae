"""A device for tests: its folder, an agent with a clock moved by hand, and what must not move."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from device_sdk.agent import Agent
from device_sdk.config import Config, read_config
from device_sdk.ferry import Ferry
from device_sdk.model import Answer, Model
from device_sdk.records import ModelState
from device_sdk.slots import ModelSlots, Store
from ota_contract.names import parse_model
from tests.support.fleet import Clock, TestServer
from tests.support.tiny import image

__all__ = ["AT_ONCE", "DIGITS", "Device", "Footprint", "Ticks", "complete", "feed", "make_device", "settle"]

DIGITS = parse_model("vision/digits")
AT_ONCE: list[dict[str, int]] = [{"percent_bp": 10_000, "soak_s": 0, "min_healthy": 0, "min_inferences": 0}]
"""Stages of a rollout that completes without asking any device."""


@dataclass(slots=True)
class Ticks:
    """A monotonic clock moved by hand; `step_s` passes at each look."""

    now_s: float = 1000.0
    step_s: float = 0.0

    def __call__(self) -> float:
        """Seconds."""
        self.now_s += self.step_s
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What an attack must not move."""

    state: bytes
    record: bytes
    live: str | None


@dataclass(slots=True, kw_only=True)
class Device:
    """One device's folder."""

    folder: Path
    config_path: Path
    clock: Clock = field(default_factory=Clock)
    ticks: Ticks = field(default_factory=Ticks)

    @property
    def config(self) -> Config:
        """As read from its file."""
        return read_config(self.config_path)

    @property
    def store(self) -> Path:
        """Its store."""
        return self.folder / "store"

    @property
    def slots(self) -> ModelSlots:
        """The slots of vision/digits."""
        return Store(self.store).model(DIGITS)

    @property
    def state(self) -> ModelState:
        """The durable record of vision/digits."""
        return self.slots.state()

    @property
    def live(self) -> str | None:
        """The version that is live."""
        slot = self.state.live
        return None if slot is None else slot.version

    @property
    def update(self) -> str | None:
        """The state of the latest update."""
        update = self.state.update
        return None if update is None else update.state.value

    def footprint(self) -> Footprint:
        """What must stay the same when something is refused."""
        return Footprint(
            state=_bytes(self.slots.state_path),
            record=_bytes(self.store / "trust" / "record.json"),
            live=self.live,
        )

    @contextlib.contextmanager
    def agent(self) -> Iterator[Agent]:
        """Its agent, under this device's clocks."""
        with Agent(self.config, clock=self.clock, monotonic=self.ticks) as agent:
            yield agent

    def poll(self) -> str:
        """Start an agent, poll once, end it."""
        with self.agent() as agent:
            return agent.poll()

    def predict(self, seed: int = 0, **options: Any) -> Answer:
        """One answer of a process of its own, so to speak."""
        with Ferry(self.config, start_agent=False) as ferry:
            return ferry.model("vision/digits").predict({"image": image(seed)}, **options)

    def activity(self) -> dict[str, Any]:
        """What the agent noted of itself."""
        values: dict[str, Any] = json.loads((self.store / "activity.json").read_bytes())
        return values

    def copy(self, folder: Path) -> Device:
        """A twin with a copy of the store; it keeps the id."""
        shutil.copytree(self.folder, folder, symlinks=True)
        path = folder / self.config_path.name
        return replace(self, folder=folder, config_path=path, clock=Clock(now=self.clock.now), ticks=Ticks())


def make_device(
    server: TestServer, folder: Path, device_id: str = "device-1", *, url: str = "", **extra: str
) -> Device:
    """A new device of a server, talking to `url` instead of it if given."""
    path = replace(server, url=url or server.url).device_toml(folder, device_id, **extra)
    return Device(folder=folder, config_path=path, clock=Clock(now=server.clock()))


def settle(device: Device, *, inferences: int = 12) -> None:
    """Bring a device through an update and its trial to healthy, and report it."""
    with device.agent() as agent:
        agent.poll()
        with Ferry(device.config, start_agent=False) as ferry:
            feed(ferry.model("vision/digits"), inferences)
        agent.step()
        agent.report_now()


def feed(model: Model, inferences: int) -> None:
    """Ask that many different things."""
    for seed in range(inferences):
        model.predict({"image": image(seed)})


def complete(server: TestServer, version: str, *, model: str = "vision/digits") -> None:
    """Make a version what everyone is on, by a rollout that has ended: the policy names no rollout."""
    server.clock.advance(seconds=1)  # the newest completed rollout decides
    rollout = server.roll_out(version, model=model, stages=AT_ONCE)
    for _ in range(3):
        server.tick()
    state = server.client().get("rollouts", rollout)["state"]
    if state != "completed":
        raise RuntimeError(f"the rollout of {version} is {state}")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
