"""Connections as a device needs them: verified TLS, the environment's proxies, and no endless waiting.

A socket's own timeout begins anew with every byte. Whoever sends one byte in time, again and again, could
hold a device's only thread for hours in a response's headers or in a chunk's length, where no limit on the
body is looked at. So every read here also has a deadline, which only whole progress moves.
"""

from __future__ import annotations

import functools
import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from device_sdk.config import TlsConfig
from device_sdk.errors import ConfigError

__all__ = ["Limits", "Pools", "set_deadline", "tls_context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on one transfer."""

    connect_s: float = 10.0
    headers_s: float = 30.0
    """From the request to the last byte of the answer's headers."""
    silence_s: float = 30.0
    """Longest wait for the next bytes."""
    least_bytes_per_s: float = 256.0
    """Slower than this over `patience_s` is a stalled link, or an attacker who trickles."""
    patience_s: float = 60.0
    total_s: float = 6 * 3600.0


def tls_context(tls: TlsConfig) -> ssl.SSLContext:
    """A context that verifies names and chains, from TLS 1.2 on.

    Raises:
        ConfigError: A file cannot be read, or is not what it should be.
    """
    path = tls.ca_bundle
    try:
        context = ssl.create_default_context(cafile=None if path is None else str(path))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.certificate is not None:
            path = tls.certificate
            # Without this, an encrypted key would ask for its passphrase on a terminal nobody sits at.
            context.load_cert_chain(path, tls.key, password=_no_passphrase)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigError(f"tls: {path} cannot be used: {reason}") from error
    return context


class Pools:
    """Connection pools: one for direct connections, and one for each proxy."""

    def __init__(self, limits: Limits, tls: TlsConfig | None, environ: Mapping[str, str] | None) -> None:
        """Open no connection.

        Args:
            limits: Bounds on waiting.
            tls: None for the system's authorities and no certificate.
            environ: `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`; None for the process's own.

        Raises:
            ConfigError: A TLS file or a proxy cannot be used.
        """
        self._limits = limits
        self._context = None if tls is None else tls_context(tls)
        self._proxies = _proxies(environ)
        self._pools: dict[str, urllib3.PoolManager] = {}

    def of(self, url: str) -> urllib3.PoolManager:
        """The pool that leads to a URL."""
        proxy = self._proxy_of(url)
        if proxy not in self._pools:
            self._pools[proxy] = self._open(proxy)
        return self._pools[proxy]

    def close(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            pool.clear()

    def _proxy_of(self, url: str) -> str:
        parts = urlsplit(url)
        proxy = self._proxies.get(parts.scheme) or self._proxies.get("all")
        host = parts.netloc.rpartition("@")[2]
        if not proxy or proxy_bypass_environment(host, dict(self._proxies)):
            return ""
        return proxy

    def _open(self, proxy: str) -> urllib3.PoolManager:
        limits = self._limits
        options: dict[str, Any] = {
            "timeout": urllib3.Timeout(connect=limits.connect_s, read=limits.silence_s),
            "retries": False,  # left to the caller, who knows what a retry costs
            "maxsize": 2,
        }
        if self._context is not None:
            options["ssl_context"] = self._context
        if proxy:
            pool: urllib3.PoolManager = urllib3.ProxyManager(
                _without_credentials(proxy), proxy_headers=_proxy_headers(proxy), **options
            )
        else:
            pool = urllib3.PoolManager(**options)
        pool.pool_classes_by_scheme = {
            "http": _with_connection(urllib3.HTTPConnectionPool, _PlainConnection, limits),
            "https": _with_connection(urllib3.HTTPSConnectionPool, _TlsConnection, limits),
        }
        return pool


def set_deadline(response: urllib3.BaseHTTPResponse, ends_at: float) -> None:
    """Let no further read of a response outlast this moment of `time.monotonic`."""
    reader = getattr(response.connection, "reader", None)
    if isinstance(reader, _Reader):
        reader.ends_at = ends_at


class _Reader(io.RawIOBase):
    """A socket's bytes until a deadline."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, silence_s: float, ends_at: float) -> None:
        super().__init__()
        self._raw, self._sock, self._silence_s = raw, sock, silence_s
        self.ends_at = ends_at

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - a writable buffer
        left = self.ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer did not come in time")
        self._sock.settimeout(min(self._silence_s, left))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """http.client's, over our reader."""

    def __init__(
        self,
        keep: Callable[[io.RawIOBase, socket.socket], _Reader],
        sock: socket.socket,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(sock, **options)
        buffered: Any = self.fp
        self.fp = io.BufferedReader(keep(buffered.detach(), sock))


class _PlainConnection(HTTPConnection):
    """A connection whose reads have a deadline; `reader` is that of its latest answer."""

    limits = Limits()
    reader: _Reader | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **options)
        self.response_class = functools.partial(_Response, self._keep)  # type: ignore[assignment]

    def _keep(self, raw: io.RawIOBase, sock: socket.socket) -> _Reader:
        # The read timeout of this request, where it is less: a caller's deadline holds for headers, too.
        left = min(self.limits.headers_s, float(self.timeout or self.limits.headers_s))
        self.reader = _Reader(raw, sock, self.limits.silence_s, time.monotonic() + left)
        return self.reader


class _TlsConnection(_PlainConnection, HTTPSConnection):
    """The same, encrypted and verified."""


def _with_connection(pool: type[Any], connection: type[_PlainConnection], limits: Limits) -> type[Any]:
    bound = type(connection.__name__, (connection,), {"limits": limits})
    return type(pool.__name__, (pool,), {"ConnectionCls": bound})


def _proxies(environ: Mapping[str, str] | None) -> dict[str, str]:
    """Proxies by scheme, `all` and `no` (hosts without one), as URLs with their scheme.

    Raises:
        ConfigError: One is of a kind that is not supported.
    """
    if environ is None:
        found = getproxies_environment()
    else:
        names = {"http_proxy": "http", "https_proxy": "https", "all_proxy": "all", "no_proxy": "no"}
        found = {kind: environ[name] for name, kind in names.items() if environ.get(name)}
    proxies = {}
    for kind in ("http", "https", "all"):
        if found.get(kind):
            proxies[kind] = found[kind] if "://" in found[kind] else f"http://{found[kind]}"
    for kind in ("http", "https"):
        scheme = urlsplit(proxies.get(kind) or proxies.get("all", "http:")).scheme
        if scheme not in ("http", "https"):
            raise ConfigError(f"proxies of kind {scheme}:// are not supported; http:// and https:// are")
    return {**proxies, "no": found.get("no", "")}


def _without_credentials(proxy: str) -> str:
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _proxy_headers(proxy: str) -> Mapping[str, str]:
    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return urllib3.make_headers(proxy_basic_auth=credentials)


def _no_passphrase() -> str:
    raise ValueError("its private key is encrypted; a device needs one it can read by itself")
