"""The fleet manager of the demonstration: drafts, starts and follows rollouts with the `ferry` command."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from demo.errors import StepError
from demo.processes import Children
from demo.telling import Teller
from ferry_cli.client import Client
from ota_contract.bucketing import bucket
from ota_contract.credentials import Credentials

__all__ = ["FleetManager"]

_FINAL = ("completed", "rolled_back", "aborted")
_LOOK_EVERY_S = 0.4
_DRAFTS = 20


class FleetManager:
    """Somebody with a fleet manager's token."""

    def __init__(self, children: Children, ferry: Path, credentials: Credentials, model: str) -> None:
        """Log in."""
        self._children = children
        self._ferry = ferry
        self._model = model
        self._client = Client(credentials)
        children.run("login", ferry, "login", credentials.server, typed=credentials.token)

    def draft(self, version: str, *options: str) -> str:
        """Draft a rollout; returns its id."""
        return self._run("create", self._model, version, *options)

    def draft_reaching(self, version: str, device_ids: list[str], percent_bp: int, *options: str) -> str:
        """Draft until some device's bucket lies in the first stage.

        A few percent of a small fleet may be nobody at all: the buckets of a draft are known beforehand.
        """
        for _ in range(_DRAFTS):
            rollout = self.draft(version, *options)
            if sum(bucket(rollout, device) < percent_bp for device in device_ids) > 1:
                return rollout
            self._run("abort", rollout)
        raise StepError(f"after {_DRAFTS} drafts no device falls into the first stage")

    def await_devices(self, count: int, *, within_s: float) -> None:
        """Wait until that many devices have enrolled.

        Raises:
            StepError: They did not in time.
        """
        deadline = time.monotonic() + within_s
        while (enrolled := len(self._client.get("devices", limit=1000)["devices"])) < count:
            if time.monotonic() > deadline:
                raise StepError(f"only {enrolled} of {count} devices enrolled within {within_s:g} s")
            time.sleep(_LOOK_EVERY_S)

    def start(self, rollout: str) -> None:
        """Start a draft."""
        self._run("start", rollout)

    def roll_back(self, rollout: str) -> None:
        """Turn a rollout back by hand."""
        self._run("rollback", rollout)

    def follow(self, rollout: str, teller: Teller, *, within_s: float) -> dict[str, Any]:
        """Wait for a rollout's end, telling every change of its state and percentage.

        Raises:
            StepError: It did not end in time.
        """
        deadline = time.monotonic() + within_s
        told: tuple[object, ...] = ()
        while True:
            current: dict[str, Any] = self._client.get("rollouts", rollout)
            line = f"{current['percent_bp'] / 100:g} %  {current['state']}: {current['why']}"
            milestone = (current["state"], current["percent_bp"])
            if milestone == told:
                teller.update(line)
            else:
                teller.say(line)
                told = milestone
            if current["state"] in _FINAL:
                return current
            if time.monotonic() > deadline:
                raise StepError(f"rollout {rollout} did not end within {within_s:g} s: {current['why']}")
            time.sleep(_LOOK_EVERY_S)

    def _run(self, action: str, *arguments: str) -> str:
        text = self._children.run(f"rollout {action}", self._ferry, "rollout", action, *arguments, "--json")
        rollout: dict[str, Any] = json.loads(text)
        return str(rollout["id"])
