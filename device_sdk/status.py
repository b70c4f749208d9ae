"""What a device can say of itself from its store alone, in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from device_sdk.activity import read_activity
from device_sdk.config import Config
from device_sdk.durable import read_bounded
from device_sdk.errors import StoreError
from device_sdk.records import Refusal, Slot, Update
from device_sdk.slots import ModelSlots, Store
from device_sdk.trust_record import MAX_RECORD_BYTES, parse_record
from ota_contract.documents import format_instant
from ota_contract.errors import ContractError
from ota_contract.report import UpdateState

__all__ = ["describe", "read_status"]


def read_status(config: Config) -> dict[str, Any]:
    """The status as JSON values; reads the store and asks nobody.

    Raises:
        StoreError: The store cannot be opened.
    """
    store = Store(config.store)
    models: dict[str, Any] = {}
    for name in config.models:
        slots = store.model(name)
        try:
            models[str(name)] = _model(slots)
        except StoreError as error:
            models[str(name)] = {"live": None, "previous": None, "update": None, "error": str(error)}
    return {
        "device": config.device.device_id,
        "server": config.server,
        "store": str(config.store),
        "runtimes": dict(config.device.runtimes),
        "models": models,
        "damaged": _damaged(store, config),
        **read_activity(config.store),
    }


def describe(status: dict[str, Any]) -> str:
    """The same for a person, a line each."""
    lines = [f"device {status['device']}, server {status['server']}"]
    for name, model in status["models"].items():
        lines.append(f"{name}: {_live_line(model)}")
        lines.extend(f"  {line}" for line in _update_lines(model))
    lines.extend(f"damaged: {line}" for line in status["damaged"])
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


def _update_lines(model: dict[str, Any]) -> Iterator[str]:
    update = model["update"]
    if update:
        reason = f" ({update['reason']})" if update["reason"] else ""
        yield f"update to {update['version']}: {update['state'].replace('_', ' ')}{reason}"
        if update["retry_at"]:
            yield f"attempt {update['attempts'] + 1} not before {update['retry_at']}"
    trial = model.get("trial")
    if trial:
        yield (
            f"on trial: {trial['inferences']} of {trial['inferences_needed']} inferences, "
            f"{trial['errors']} errors (at most {trial['max_error_ppm'] / 10_000:g} % may fail), "
            f"{trial['starts']} starts without a good end (more than {trial['max_starts']} are a crash loop)"
        )
    back = model.get("last_rollback")
    if back:
        yield f"last rollback: from {back['version']}{_when(back)}: {back['reason']}"
    for refusal in model.get("refused", []):
        yield f"{refusal['version']} is not tried again {refusal['until']}: {refusal['reason']}"


def _when(refusal: dict[str, Any]) -> str:
    return f" at {refusal['at']}" if refusal["at"] else ""


def _model(slots: ModelSlots) -> dict[str, Any]:
    state = slots.state()
    back = next((each for each in reversed(state.refusals) if each.ended is UpdateState.ROLLED_BACK), None)
    return {
        "live": _slot(state.live),
        "candidate": _slot(state.candidate),
        "previous": _slot(state.previous),
        "update": state.update and _update(state.update),
        "trial": _trial(state.update, slots.starts()),
        "last_rollback": back and _refusal(back),
        "refused": [_refusal(refusal) for refusal in state.refusals],
    }


def _update(update: Update) -> dict[str, Any]:
    return {
        "version": update.version,
        "state": update.state.value,
        "reason": update.reason,
        "attempts": update.attempts,
        "retry_at": update.retry_at and format_instant(update.retry_at),
        "inferences": update.inferences,
        "errors": update.errors,
        "rollout": update.rollout,
    }


def _trial(update: Update | None, starts: int) -> dict[str, Any] | None:
    """How far a trial is; None where there is none."""
    if update is None or update.state is not UpdateState.LIVE_ON_TRIAL:
        return None
    return {
        "inferences": update.inferences,
        "inferences_needed": update.trial.inferences,
        "errors": update.errors,
        "max_error_ppm": update.trial.max_error_ppm,
        "starts": starts,
        "max_starts": update.trial.max_starts,
    }


def _refusal(refusal: Refusal) -> dict[str, Any]:
    return {
        "version": refusal.version,
        "reason": refusal.reason,
        "ended": refusal.ended and refusal.ended.value,
        "at": refusal.at and format_instant(refusal.at),
        # As `updater` has it: a rollout names it once, and without one a revision does.
        "until": f"before another rollout than {refusal.rollout} names it"
        if refusal.rollout
        else f"before a policy after revision {refusal.revision} names it",
    }


def _damaged(store: Store, config: Config) -> list[str]:
    """What cannot be read of what this device must not forget, and what that means."""
    found = [store.model(name).record.damage() for name in config.models]
    path = store.root / "trust" / "record.json"
    try:
        parse_record(read_bounded(path, MAX_RECORD_BYTES))
    except FileNotFoundError:
        pass
    except (OSError, ContractError) as error:
        found.append(f"{path}: {error}: no updates until it is put back, or the device is provisioned anew")
    return [text for text in found if text]


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
