"""A real server over real HTTP for tests, and devices that poll it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from converter.publishing.publish import publish
from converter.publishing.signing import PublisherKey, read_key
from ferry_cli.client import Client
from ota_contract.credentials import Credentials
from ota_contract.manifest import Release
from ota_server.adapters.keys import Threshold, init_keys
from ota_server.adapters.registry import open_registry
from ota_server.app import create_app
from ota_server.domain.access import Principal, Role
from ota_server.operations.access import create_token
from ota_server.operations.ports import Services
from ota_server.operations.reconciler import tick
from ota_server.settings import GIBIBYTE, Settings
from tests.support.tiny import TinyRelease, write_package

__all__ = ["Clock", "TestServer", "Traffic", "start_server"]


@dataclass(slots=True)
class Clock:
    """The time, moved by hand; thread-safe enough for one mover."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __call__(self) -> datetime:
        """The time."""
        return self.now

    def advance(self, **span: float) -> None:
        """Let time pass."""
        self.now += timedelta(**span)


@dataclass(slots=True)
class Traffic:
    """Wraps the application and counts what it answers."""

    app: ASGIApp
    requests: int = 0
    body_bytes: int = 0
    not_modified: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve and count."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.requests += 1
                self.not_modified += message["status"] == 304
            self.body_bytes += len(message.get("body", b""))
            await send(message)

        await self.app(scope, receive, counted)


@dataclass(slots=True, kw_only=True)
class TestServer:
    """A running server whose reconciler ticks when told to."""

    __test__ = False

    root: Path
    """Holds keys/ (of `ferry keys init`) and packages/."""
    url: str
    clock: Clock
    services: Services
    counted: Traffic
    stop: Callable[[], None]
    tokens: dict[str, str]
    """By role; `publisher:<name>` for publishers."""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def client(self, role: Role = Role.FLEET_MANAGER) -> Client:
        """An API client of a role."""
        return Client(Credentials(server=self.url, token=self.tokens[role.value]))

    def publish(self, tiny: TinyRelease) -> Release:
        """Write a package and publish it, as its publisher would."""
        folder = self.root / "packages" / f"{tiny.version}-{next(self._numbers)}"
        release = write_package(folder, tiny)
        self.publish_folder(folder, release.name.publisher)
        return release

    def publish_folder(self, folder: Path, publisher: str = "vision") -> None:
        """Publish a package folder."""
        credentials = Credentials(server=self.url, token=self.tokens[f"publisher:{publisher}"])
        publish(folder, credentials, self.key(publisher), now=self.clock())

    def key(self, publisher: str = "vision") -> PublisherKey:
        """A publisher's key."""
        return read_key(self.root / "keys" / "publishers" / f"{publisher}.pem")

    @property
    def trust_root(self) -> Path:
        """What devices are delivered with."""
        return self.root / "keys" / "root.json"

    @property
    def data(self) -> Path:
        """The server's data folder."""
        return self.root / "keys" / "server"

    def traffic(self) -> Traffic:
        """What the server has answered up to now."""
        return replace(self.counted)

    def tick(self) -> None:
        """Run the reconciler once."""
        tick(self.services)

    def roll_out(self, version: str, *, model: str = "vision/digits", **body: object) -> str:
        """Draft and start a recreate rollout (or what `body` says); returns its id."""
        plan = {"model": model, "version": version, "strategy": "recreate", "stages": [], **body}
        rollout_id: str = self.client().post("rollouts", body=plan)["id"]
        self.client().post("rollouts", rollout_id, "start")
        return rollout_id

    def device_toml(self, folder: Path, device_id: str = "device-1", **extra: str) -> Path:
        """Write a device's configuration; `extra` tables are appended as they are."""
        folder.mkdir(parents=True, exist_ok=True)
        token = folder / "enrolment.token"
        token.write_text(self.tokens[Role.ENROLMENT.value])
        path = folder / "device.toml"
        tables = "\n".join(extra.values())
        path.write_text(
            f'server = "{self.url}"\nstore = "store"\ntrust_root = "{self.trust_root}"\n'
            f'models = ["vision/digits"]\n[device]\nid = "{device_id}"\nruntimes = ["onnx"]\n'
            f'[enrolment]\ntoken_file = "{token}"\n{tables}\n'
        )
        return path


def start_server(
    root: Path,
    *,
    publishers: tuple[str, ...] = ("vision",),
    poll_interval_s: int = 1,
    quota_bytes: int = GIBIBYTE,
    clock: Clock | None = None,
) -> TestServer:
    """Make keys and serve on a free loopback port, in a thread of this process."""
    clock = clock or Clock()
    threshold = Threshold(needed=1, keys=1)
    if not (root / "keys").exists():
        init_keys(root / "keys", publishers, root=threshold, targets=threshold, now=clock())
    settings = Settings(
        data=root / "keys" / "server", poll_interval_s=poll_interval_s, tick_s=0, quota_bytes=quota_bytes
    )
    app = create_app(settings, clock=clock)
    counted = Traffic(app)
    server = uvicorn.Server(uvicorn.Config(counted, port=0, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        if not thread.is_alive():
            raise RuntimeError("the server did not start")
    port = server.servers[0].sockets[0].getsockname()[1]

    def stop() -> None:
        server.should_exit = True
        thread.join()

    return TestServer(
        root=root,
        url=f"http://127.0.0.1:{port}",
        clock=clock,
        services=app.state.services,
        counted=counted,
        stop=stop,
        tokens=_tokens(settings.data, publishers, clock),
    )


def _tokens(data: Path, publishers: tuple[str, ...], clock: Clock) -> dict[str, str]:
    registry = open_registry(data)
    serial = clock().strftime("%H%M%S%f")
    try:
        found = {
            role.value: create_token(registry, Principal(name=f"{role.value}-{serial}", role=role), clock)
            for role in (Role.FLEET_MANAGER, Role.VIEWER, Role.ENROLMENT)
        }
        for publisher in publishers:
            principal = Principal(name=f"{publisher}-{serial}", role=Role.PUBLISHER, publisher=publisher)
            found[f"publisher:{publisher}"] = create_token(registry, principal, clock)
    finally:
        registry.close()
    return found
