"""Run the OTA server on one data folder: API, signed metadata and blobs, in one process.

  ferry keys init keys --publisher vision
  ferry serve --data keys/server --port 8000

Everything it keeps is in the data folder; Ctrl-C or SIGTERM ends it in good order. Put a TLS proxy in
front of it where devices reach it over a network.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import socket
import sys
from pathlib import Path

from ota_server.commands.passphrases import add_options, secrets_of
from ota_server.errors import SetupError
from ota_server.settings import Settings

__all__ = ["configure", "run"]

_MEBIBYTE = 1024 * 1024
_GRACE_S = 5
"""Seconds that requests under way are given at the end; an interrupted upload goes on later."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="server/ of ferry keys init")
    parser.add_argument("--port", type=int, default=8000, help="0 picks a free one (default %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument(
        "--poll-interval",
        type=int,
        default=300,
        metavar="SECONDS",
        help="how often devices are asked to poll (default %(default)s)",
    )
    parser.add_argument(
        "--tick",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="how often rollouts are looked at (default %(default)s)",
    )
    parser.add_argument(
        "--quota-mb",
        type=int,
        default=10 * 1024,
        metavar="MIB",
        help="what each publisher may store (default %(default)s)",
    )
    add_options(parser)
    parser.add_argument("--json", action="store_true", help="announce the URL as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    import uvicorn  # noqa: PLC0415 - `--help` stays quick

    from ota_server.app import create_app  # noqa: PLC0415

    if arguments.poll_interval < 1 or arguments.tick <= 0 or arguments.quota_mb < 0:
        raise SetupError("--poll-interval is at least 1, --tick above 0, --quota-mb at least 0")
    settings = Settings(
        data=arguments.data,
        poll_interval_s=arguments.poll_interval,
        tick_s=arguments.tick,
        quota_bytes=arguments.quota_mb * _MEBIBYTE,
        secrets=secrets_of(arguments, once=True),
    )
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    app = create_app(settings)
    listener = _listen(arguments.host, arguments.port)
    # A long keep-alive spares polling devices their TCP handshakes.
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = uvicorn.Server(config)
    # Uvicorn raises the signal again once it has shut down: a service that was told to stop has not failed.
    signal.signal(signal.SIGTERM, lambda *_: setattr(server, "should_exit", True))
    url = f"http://{arguments.host}:{listener.getsockname()[1]}"
    line = json.dumps({"url": url}) if arguments.json else f"serving {arguments.data} at {url}"
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    server.run(sockets=[listener])
    return 0


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=1024)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SetupError(f"cannot listen on {host}:{port}: {reason}; try --port 0") from error
