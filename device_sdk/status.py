"""What a device can say of itself from its store alone, in words and as JSON."""

from __future__ import annotations

from typing import Any

from device_sdk.activity import read_activity
from device_sdk.config import Config
from device_sdk.errors import StoreError
from device_sdk.records import ModelState, Slot
from device_sdk.slots import Store

__all__ = ["describe", "read_status"]


def read_status(config: Config) -> dict[str, Any]:
    """The status as JSON values; reads the store and asks nobody.

    Raises:
        StoreError: The store cannot be opened.
    """
    store = Store(config.store)
    models: dict[str, Any] = {}
    for name in config.models:
        try:
            models[str(name)] = _model(store.model(name).state())
        except StoreError as error:
            models[str(name)] = {"live": None, "previous": None, "update": None, "error": str(error)}
    return {
        "device": config.device.device_id,
        "server": config.server,
        "store": str(config.store),
        "runtimes": dict(config.device.runtimes),
        "models": models,
        **read_activity(config.store),
    }


def describe(status: dict[str, Any]) -> str:
    """The same for a person, a line each."""
    lines = [f"device {status['device']}, server {status['server']}"]
    for name, model in status["models"].items():
        lines.append(f"{name}: {_live_line(model)}")
        update = model["update"]
        if update:
            reason = f" ({update['reason']})" if update["reason"] else ""
            lines.append(f"  update to {update['version']}: {update['state'].replace('_', ' ')}{reason}")
        lines.extend(
            f"  {refusal['version']} is not tried again: {refusal['reason']}"
            for refusal in model.get("refused", [])
        )
    polls = status["polls"]
    lines.append(f"polls: {polls['total']}, of which unchanged {polls['not_modified']}")
    if status["last_error"]:
        lines.append(f"last error, {status['last_error']['at']}: {status['last_error']['message']}")
    return "\n".join(lines)


def _live_line(model: dict[str, Any]) -> str:
    if model.get("error"):
        return str(model["error"])
    live, previous = model["live"], model["previous"]
    if live is None:
        return "nothing is installed yet"
    line = f"{live['version']} is live ({live['variant']})"
    return line if previous is None else f"{line}, {previous['version']} is kept to fall back on"


def _model(state: ModelState) -> dict[str, Any]:
    update = state.update
    return {
        "live": _slot(state.live),
        "candidate": _slot(state.candidate),
        "previous": _slot(state.previous),
        "update": None
        if update is None
        else {
            "version": update.version,
            "state": update.state.value,
            "reason": update.reason,
            "attempts": update.attempts,
            "inferences": update.inferences,
            "errors": update.errors,
            "rollout": update.rollout,
        },
        "refused": [{"version": refusal.version, "reason": refusal.reason} for refusal in state.refusals],
    }


def _slot(slot: Slot | None) -> dict[str, Any] | None:
    if slot is None:
        return None
    return {
        "version": slot.version,
        "variant": slot.variant_id,
        "counter": slot.counter,
        "arm": slot.arm.value,
        "rollout": slot.rollout,
    }
