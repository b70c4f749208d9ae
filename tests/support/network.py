"""A proxy between devices and a server: it counts, and misbehaves as a test tells it."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import urllib3

__all__ = [
    "Fault",
    "Proxy",
    "Reply",
    "Seen",
    "answer",
    "captive_portal",
    "corrupt",
    "drop_after",
    "endless",
    "hang_up",
    "ignore_range",
    "redirect",
    "run_proxy",
    "trickle",
    "wrong_length",
]

_CARRIED = ("ETag", "Content-Type", "Content-Range", "Retry-After", "Accept-Ranges")


@dataclass(slots=True, kw_only=True)
class Reply:
    """What the proxy is about to answer; a fault changes it."""

    status: int
    headers: dict[str, str]
    body: bytes
    send_bytes: int | None = None
    """Hang up after this many bytes of the body."""
    endless: bool = False
    hangs_up: bool = False
    """Say nothing at all."""
    pause_s: float | None = None
    """Between single bytes."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """One request and what went back."""

    method: str
    path: str
    range: str
    status: int
    sent_bytes: int
    body: bytes
    authorization: str


Fault = Callable[[Reply], None]


@dataclass(slots=True)
class _Rule:
    pattern: re.Pattern[str]
    fault: Fault
    times: int | None


@dataclass(slots=True)
class Proxy:
    """Forwards to `upstream`, or serves `/metadata` and `/targets` from `folder` if that is set."""

    upstream: str
    url: str = ""
    folder: Path | None = None
    dead: bool = False
    """Hangs up on everybody."""
    seen: list[Seen] = field(default_factory=list)
    rules: list[_Rule] = field(default_factory=list)
    pool: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(retries=False, timeout=30, maxsize=8)
    )

    def misbehave(self, pattern: str, fault: Fault, *, times: int | None = None) -> None:
        """Apply a fault to answers whose path matches, always or the next `times`."""
        self.rules.append(_Rule(re.compile(pattern), fault, times))

    def heal(self) -> None:
        """Behave from now on."""
        self.rules.clear()
        self.dead = False
        self.folder = None

    def forget(self) -> None:
        """Count anew."""
        self.seen.clear()

    def paths(self) -> list[str]:
        """`METHOD path` of every request since `forget`."""
        return [f"{item.method} {item.path}" for item in self.seen]

    def sent(self, pattern: str) -> int:
        """Body bytes sent for paths that match."""
        return sum(item.sent_bytes for item in self.seen if re.search(pattern, item.path))


@contextmanager
def run_proxy(upstream: str, *, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """A running proxy on a free loopback port; with `tls` it is an HTTPS server."""
    proxy = Proxy(upstream)

    class Bound(_Handler):
        state = proxy

    server = _Server(("127.0.0.1", 0), Bound)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    proxy.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        proxy.pool.clear()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is part of the game."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Proxy
    timeout = 30

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _handle(self, method: str) -> None:
        proxy = self.state
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if proxy.dead:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        faults = self._faults()
        headers = dict(self.headers.items())
        if ignore_range in faults:
            headers.pop("Range", None)
        reply = self._reply(method, headers, body)
        for fault in faults:
            fault(reply)
        planned = reply.body if reply.send_bytes is None else reply.body[: reply.send_bytes]
        seen = Seen(
            method=method,
            path=self.path,
            range=self.headers.get("Range", ""),
            status=reply.status,
            sent_bytes=len(planned),
            body=body,
            authorization=self.headers.get("Authorization", ""),
        )
        proxy.seen.append(seen)  # before the client can know of the answer
        seen.sent_bytes = self._send(reply)

    def _faults(self) -> list[Fault]:
        found = []
        for rule in list(self.state.rules):
            if rule.pattern.search(self.path):
                found.append(rule.fault)
                if rule.times is not None:
                    rule.times -= 1
                    if rule.times == 0:
                        self.state.rules.remove(rule)
        return found

    def _reply(self, method: str, headers: dict[str, str], body: bytes) -> Reply:
        folder = self.state.folder
        if folder is not None and self.path.startswith(("/metadata/", "/targets/")):
            return _from_folder(folder / self.path.lstrip("/"), headers.get("If-None-Match", ""))
        for name in ("Host", "Connection", "Content-Length"):
            headers.pop(name, None)
        got = self.state.pool.request(
            method, self.state.upstream + self.path, body=body or None, headers=headers, redirect=False
        )
        carried = {name: got.headers[name] for name in _CARRIED if name in got.headers}
        return Reply(status=got.status, headers=carried, body=got.data)

    def _send(self, reply: Reply) -> int:
        if reply.hangs_up:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return 0
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.endless:
            self.send_header("Connection", "close")
            self.end_headers()
            return self._send_endlessly()
        if reply.status != 304:
            self.send_header("Content-Length", reply.headers.get("X-Length") or str(len(reply.body)))
        self.end_headers()
        if reply.pause_s is not None:
            return self._trickle(reply)
        data = reply.body if reply.send_bytes is None else reply.body[: reply.send_bytes]
        self.wfile.write(data)
        if len(data) < len(reply.body) or "X-Length" in reply.headers:
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
        return len(data)

    def _send_endlessly(self) -> int:
        sent = 0
        self.close_connection = True
        try:
            while sent < 64 * 1024 * 1024:
                self.wfile.write(b" " * 65536)
                sent += 65536
        except OSError:
            return sent
        return sent

    def _trickle(self, reply: Reply) -> int:
        for sent, byte in enumerate(reply.body):
            try:
                self.wfile.write(bytes([byte]))
            except OSError:
                return sent
            time.sleep(reply.pause_s or 0)
        return len(reply.body)


def _from_folder(path: Path, if_none_match: str) -> Reply:
    if not path.is_file():
        return Reply(status=404, headers={"Content-Type": "text/plain"}, body=b"")
    body = path.read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    if if_none_match == etag:
        return Reply(status=304, headers={"ETag": etag}, body=b"")
    return Reply(status=200, headers={"ETag": etag, "Content-Type": "application/json"}, body=body)


def answer(status: int, body: bytes = b"", **headers: str) -> Fault:
    """Another answer altogether; `_` in header names stands for `-`."""

    def fault(reply: Reply) -> None:
        reply.status, reply.body = status, body
        reply.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    return fault


def captive_portal(reply: Reply) -> None:
    """The log-in page of a hotel, with status 200."""
    reply.status = 200
    reply.headers = {"Content-Type": "text/html; charset=utf-8"}
    reply.body = b"<html><body>Please accept our terms</body></html>"


def hang_up(reply: Reply) -> None:
    """Close the connection instead of answering."""
    reply.hangs_up = True


def redirect(location: str) -> Fault:
    """Point elsewhere."""
    return answer(302, Location=location)


def drop_after(sent_bytes: int) -> Fault:
    """Hang up after that many bytes of the body, having announced all of it."""

    def fault(reply: Reply) -> None:
        reply.send_bytes = sent_bytes

    return fault


def corrupt(at: int) -> Fault:
    """Flip a bit of the file's byte `at`, wherever the answer's range begins."""

    def fault(reply: Reply) -> None:
        begins = re.match(r"bytes (\d+)-", reply.headers.get("Content-Range", ""))
        index = at - (int(begins[1]) if begins else 0)
        if 0 <= index < len(reply.body):
            changed = bytearray(reply.body)
            changed[index] ^= 1
            reply.body = bytes(changed)

    return fault


def ignore_range(reply: Reply) -> None:
    """Serve the whole file whatever was asked for; the handler looks for this very function."""
    reply.headers.pop("Accept-Ranges", None)


def wrong_length(delta: int) -> Fault:
    """Announce another length than is sent."""

    def fault(reply: Reply) -> None:
        reply.headers["X-Length"] = str(max(0, len(reply.body) + delta))

    return fault


def endless(reply: Reply) -> None:
    """Never stop sending, as if that were the file."""
    reply.status, reply.endless = 200, True


def trickle(pause_s: float) -> Fault:
    """One byte at a time."""

    def fault(reply: Reply) -> None:
        reply.pause_s = pause_s

    return fault
