"""`Ferry`: a device's models for an app, and the update agent in the background."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any, Self

from device_sdk.agent import Agent
from device_sdk.cloud import CloudModel
from device_sdk.config import Config, read_config
from device_sdk.errors import ConfigError, StoreLockedError
from device_sdk.model import Model
from device_sdk.slots import Store
from device_sdk.spool import Spool
from device_sdk.status import read_status
from device_sdk.transport import Limits, Transport
from ota_contract.errors import FerryError
from ota_contract.names import ModelName, parse_model

__all__ = ["Ferry"]

_LOG = logging.getLogger("ferry")
_WATCH_S = 0.5
"""How often an app notices a release that another process's agent put in place."""


class Ferry:
    """The models of one device.

    Use it as a context manager, or call `close()`. Where another process already runs the agent of the
    same store, this one attaches: it predicts, counts, and follows the releases the other installs.
    """

    def __init__(self, config: Config, *, start_agent: bool = True) -> None:
        """Open the store, and start the agent unless told not to or another process runs it.

        Raises:
            StoreError: The store cannot be used.
            ConfigError: The trust root cannot be read.
        """
        self._config = config
        self._store = Store(config.store)
        self._spool = Spool(config.store / "reports")
        self._transport = Transport(Limits(connect_s=5.0), tls=config.cloud.tls if config.cloud else None)
        self._models: dict[ModelName, Model] = {}
        self._lock = threading.Lock()
        self._agent = _open_agent(config) if start_agent else None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ferry", daemon=True)
        self._thread.start()

    @classmethod
    def from_config(cls, path: str | Path, *, start_agent: bool = True) -> Self:
        """Open the device that a `device.toml` describes.

        Raises:
            ConfigError: The file is missing or malformed.
            StoreError: The store cannot be used.
        """
        return cls(read_config(Path(path)), start_agent=start_agent)

    @property
    def runs_agent(self) -> bool:
        """Whether this process updates the device, or merely follows one that does."""
        return self._agent is not None

    def model(self, name: str) -> Model:
        """The handle of a model, `publisher/model`; the same object every time.

        Raises:
            ConfigError: `device.toml` does not list it.
        """
        key = parse_model(name)
        with self._lock:
            model = self._models.get(key)
            if model is None:
                model = self._models[key] = self._open(key)
        return model

    def status(self) -> dict[str, Any]:
        """What is installed, how the update stands, and what the agent has been doing."""
        return {**read_status(self._config), "runs_agent": self.runs_agent}

    def close(self) -> None:
        """Stop the agent where it stands and let go of the models; nothing durable is lost."""
        self._ending.set()
        if self._agent is not None:
            self._agent.stop()
        self._thread.join()
        with self._lock:
            for model in self._models.values():
                model.close()
            self._models.clear()
        if self._agent is not None:
            self._agent.close()
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, name: ModelName) -> Model:
        if name not in self._config.models:
            known = ", ".join(map(str, self._config.models))
            raise ConfigError(f"{name} is not among the models of device.toml ({known})")
        cloud = self._config.cloud
        return Model(
            name,
            self._store.model(name),
            self._spool,
            None if cloud is None else CloudModel(cloud, name.model, self._transport),
            self._config.threads,
        )

    def _run(self) -> None:
        wait = 0.0
        while not self._ending.wait(min(wait, _WATCH_S)):
            try:
                wait = self._agent.step() if self._agent is not None else _WATCH_S
                self._follow()
            except FerryError as error:
                _LOG.warning("%s", error)
                wait = _WATCH_S
            except Exception:  # noqa: BLE001 - see below
                # An update must never let the app down; a fault of ours is logged, and the next step tried.
                _LOG.exception("the update agent failed")
                wait = _WATCH_S

    def _follow(self) -> None:
        with self._lock:
            models = list(self._models.values())
        agent = self._config.agent
        for model in models:
            model.reload()
            model.flush(
                interval_s=agent.report_interval_s, rollout_interval_s=agent.rollout_report_interval_s
            )


def _open_agent(config: Config) -> Agent | None:
    try:
        return Agent(config)
    except StoreLockedError:
        _LOG.info("attached to the agent that another process runs in %s", config.store)
        return None
