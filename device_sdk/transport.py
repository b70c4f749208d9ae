"""HTTP as a device needs it: bounded in bytes and time, resumable, and honest about what failed.

Every exception of the HTTP library becomes a `NetworkError`. Nothing here trusts what it fetches.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import urllib3
from urllib3.exceptions import HTTPError

from device_sdk.durable import NO_SPACE, open_private
from device_sdk.errors import DigestMismatchError, DiskFullError, MissingFileError, NetworkError, StoreError
from ota_contract import __version__

__all__ = ["Answer", "Limits", "Transport"]

_CHUNK_BYTES = 64 * 1024
_NOT_MODIFIED, _PARTIAL, _OK, _RANGE_REFUSED = 304, 206, 200, 416
_SUCCESS = range(200, 300)
_REDIRECTS = range(300, 400)
_MAX_RETRY_AFTER_S = 24 * 3600
_SHORT_BODY_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on one transfer."""

    connect_s: float = 10.0
    silence_s: float = 30.0
    """Longest wait for the next bytes."""
    least_bytes_per_s: float = 256.0
    """Slower than this over `patience_s` is a stalled link, or an attacker who trickles."""
    patience_s: float = 60.0
    total_s: float = 6 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response held in memory."""

    status: int
    body: bytes
    etag: str
    retry_after_s: float | None


class Transport:
    """One connection pool; safe to share between threads."""

    def __init__(
        self, limits: Limits | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Open no connection yet."""
        self._limits = limits or Limits()
        self._monotonic = monotonic
        self._ending = threading.Event()
        timeout = urllib3.Timeout(connect=self._limits.connect_s, read=self._limits.silence_s)
        # Redirects are refused and retries left to the caller, who knows what a retry costs.
        self._pool = urllib3.PoolManager(timeout=timeout, retries=False, maxsize=2)

    def get(self, url: str, *, max_bytes: int, etag: str = "") -> Answer:
        """GET into memory; status 200, or 304 when `etag` still holds.

        Raises:
            MissingFileError: 403 or 404.
            NetworkError: Anything else that is not the file.
        """
        headers = {"If-None-Match": etag} if etag else {}
        with self._open("GET", url, headers) as response:
            if response.status == _NOT_MODIFIED and etag:
                return _answer(response, b"")
            _expect_file(url, response)
            body = b"".join(self._chunks(url, response, max_bytes))
            return _answer(response, body)

    def stream(self, url: str) -> Iterator[bytes]:
        """GET chunk by chunk, for a reader with a bound of its own.

        Raises:
            MissingFileError: 403 or 404.
            NetworkError: Anything else that is not the file.
        """
        with self._open("GET", url, {}) as response:
            _expect_file(url, response)
            yield from self._chunks(url, response, None)

    def send(
        self,
        url: str,
        body: bytes,
        *,
        headers: Mapping[str, str],
        max_bytes: int,
        timeout_s: float | None = None,
    ) -> Answer:
        """POST; any status is an answer.

        Raises:
            NetworkError: No complete answer came within `timeout_s` (default: the usual bounds).
        """
        ends_at = None if timeout_s is None else self._monotonic() + timeout_s
        with self._open("POST", url, headers, body=body, timeout_s=timeout_s) as response:
            return _answer(response, b"".join(self._chunks(url, response, max_bytes, ends_at)))

    def download(self, url: str, part: Path, *, length_bytes: int, sha256: str) -> int:
        """Bring a file to `part`, going on where an earlier attempt ended; returns bytes received.

        On return the file has the signed length and digest and is on disk. Bytes already in `part` are
        asked for again only if the server cannot serve a range.

        Raises:
            DigestMismatchError: The bytes are not the signed ones; `part` was deleted.
            NetworkError: The link failed; `part` keeps what came.
            DiskFullError: No room; `part` was deleted to leave none of its own.
        """
        try:
            received = self._fill(url, part, length_bytes)
            if _sha256(part) != sha256:
                part.unlink()
                raise DigestMismatchError(f"{url}: the bytes are not the signed ones")
        except OSError as error:
            if error.errno in NO_SPACE:
                part.unlink(missing_ok=True)
                raise DiskFullError(f"no room for {length_bytes} bytes at {part.parent}") from error
            raise StoreError(f"{part}: {error.strerror or error}") from error
        return received

    def abort(self) -> None:
        """End transfers under way at their next bytes, and begin none: each fails with NetworkError."""
        self._ending.set()

    def close(self) -> None:
        """Close every connection."""
        self._pool.clear()

    def _fill(self, url: str, part: Path, length_bytes: int) -> int:
        have = part.stat().st_size if part.exists() else 0
        if have > length_bytes:
            part.unlink()
            have = 0
        if have == length_bytes:
            return 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._open("GET", url, headers) as response:
            if response.status == _RANGE_REFUSED:
                part.unlink(missing_ok=True)
                raise NetworkError(f"{url}: the server refused to go on at byte {have}; starting over")
            _expect_file(url, response)
            if response.status != _PARTIAL:
                have = 0
            elif not _begins_at(response, have):
                part.unlink(missing_ok=True)
                raise NetworkError(
                    f"{url}: the server sent other bytes than those from {have}; starting over"
                )
            return self._append(url, response, part, have, length_bytes)

    def _append(
        self, url: str, response: urllib3.BaseHTTPResponse, part: Path, have: int, length_bytes: int
    ) -> int:
        received = 0
        with os.fdopen(open_private(part, os.O_RDWR | os.O_CREAT), "r+b") as stream:
            stream.truncate(have)
            stream.seek(have)
            try:
                for chunk in self._chunks(url, response, length_bytes - have):
                    stream.write(chunk)
                    received += len(chunk)
            finally:
                stream.flush()
                os.fsync(stream.fileno())
        if have + received < length_bytes:
            raise NetworkError(f"{url}: the transfer ended after {have + received} of {length_bytes} bytes")
        return received

    @contextlib.contextmanager
    def _open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        body: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        if self._ending.is_set():
            raise NetworkError(f"{url}: not asked, the agent is ending")
        options = {} if timeout_s is None else {"timeout": urllib3.Timeout(total=timeout_s)}
        response: urllib3.BaseHTTPResponse | None = None
        try:
            response = self._pool.request(
                method,
                url,
                body=body,
                headers={
                    "User-Agent": f"ferry-device/{__version__}",
                    "Accept-Encoding": "identity",
                    **headers,
                },
                preload_content=False,
                redirect=False,
                **options,  # type: ignore[arg-type]
            )
            yield response
        except (HTTPError, ConnectionError, TimeoutError, UnicodeError) as error:
            raise NetworkError(f"{url}: {_cause(error)}") from error
        finally:
            if response is not None:
                _let_go(response)

    def _chunks(
        self,
        url: str,
        response: urllib3.BaseHTTPResponse,
        max_bytes: int | None,
        ends_at: float | None = None,
    ) -> Iterator[bytes]:
        limits = self._limits
        since = now = self._monotonic()
        total = recent = 0
        _wait_until(response, ends_at, now)
        ends_at = now + limits.total_s if ends_at is None else ends_at
        # read1 gives what has come. read and stream wait for a full chunk, which at one byte a second
        # is hours within which no limit below would be looked at.
        while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
            if self._ending.is_set():
                raise NetworkError(f"{url}: given up, the agent is ending")
            total += len(chunk)
            recent += len(chunk)
            if max_bytes is not None and total > max_bytes:
                response.close()
                raise NetworkError(f"{url}: more than the {max_bytes} bytes expected")
            yield chunk
            now = self._monotonic()
            if now > ends_at:
                response.close()
                raise NetworkError(f"{url}: not finished in time")
            if now - since > limits.patience_s:
                if recent < limits.least_bytes_per_s * (now - since):
                    response.close()
                    raise NetworkError(f"{url}: slower than {limits.least_bytes_per_s:g} bytes a second")
                since, recent = now, 0


def _wait_until(response: urllib3.BaseHTTPResponse, ends_at: float | None, now: float) -> None:
    """Let no read outlast a deadline: waiting for the headers has used some of the time already."""
    sock = getattr(response.connection, "sock", None)
    if ends_at is not None and sock is not None:
        sock.settimeout(max(0.001, ends_at - now))


def _let_go(response: urllib3.BaseHTTPResponse) -> None:
    """Give the connection back for the next request, or close it where bytes of this one are left on it.

    One read, not a drain: an error's short body is there already, and whoever trickles is not waited for.
    """
    with contextlib.suppress(HTTPError, OSError):
        if response.length_remaining is not None:
            response.read1(_SHORT_BODY_BYTES)  # also of nothing: only then is the connection ready again
        if response.length_remaining == 0 or response.closed:
            response.release_conn()
            return
    response.close()


def _expect_file(url: str, response: urllib3.BaseHTTPResponse) -> None:
    """Refuse what is not the file: errors, redirects, and the page of a captive portal."""
    status = response.status
    if status in (403, 404):
        raise MissingFileError(f"{url}: HTTP {status}", status=status)
    if status in _REDIRECTS:
        raise NetworkError(
            f"{url}: redirected to {response.headers.get('Location', '?')[:200]}; not followed"
        )
    if status not in (_OK, _PARTIAL):
        raise NetworkError(f"{url}: HTTP {status}", retry_after_s=_retry_after(response))
    if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/html":
        raise NetworkError(f"{url}: a web page came instead of the file; is there a captive portal?")


def _begins_at(response: urllib3.BaseHTTPResponse, offset: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")


def _answer(response: urllib3.BaseHTTPResponse, body: bytes) -> Answer:
    return Answer(
        status=response.status,
        body=body,
        etag=response.headers.get("ETag", "")[:256],
        retry_after_s=_retry_after(response),
    )


def _retry_after(response: urllib3.BaseHTTPResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    # The HTTP-date form needs a clock that can be trusted; seconds are what servers send.
    return float(min(int(text), _MAX_RETRY_AFTER_S)) if text.isdecimal() and len(text) < 10 else None  # noqa: PLR2004


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _cause(error: Exception) -> str:
    """What the system says where it is the system's word, else what the HTTP library makes of it."""
    reason = getattr(error, "reason", None) or error
    system = reason.__cause__ if isinstance(reason.__cause__, OSError) else None
    if system is not None and system.strerror:
        return system.strerror
    return f"{type(reason).__name__}: {str(reason)[:200]}"
