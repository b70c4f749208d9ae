"""HTTP as a device needs it: bounded in bytes and time, resumable, and honest about what failed.

Every exception of the HTTP library becomes a `NetworkError`. Nothing here trusts what it fetches.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import urllib3
from urllib3.exceptions import HTTPError

from device_sdk.config import TlsConfig
from device_sdk.durable import NO_SPACE
from device_sdk.errors import DigestMismatchError, DiskFullError, MissingFileError, NetworkError, StoreError
from device_sdk.http_pool import Limits, Pools, set_deadline
from device_sdk.part_file import PartFile
from ota_contract import __version__
from ota_contract.package_files import Pieces

__all__ = ["Answer", "Limits", "Transport"]

_CHUNK_BYTES = 64 * 1024
_NOT_MODIFIED, _PARTIAL, _OK, _RANGE_REFUSED = 304, 206, 200, 416
_SUCCESS = range(200, 300)
_REDIRECTS = range(300, 400)
_MAX_RETRY_AFTER_S = 24 * 3600
_SHORT_BODY_BYTES = 4096
_MAX_ETAG = 256
_RANGE_PATIENCE_S = 3600.0
"""How long a server or middlebox without ranges is given to come to its senses before a file that was
begun is fetched whole, from its first byte."""
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/([0-9]{1,19}|\*)")


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
        self,
        limits: Limits | None = None,
        *,
        tls: TlsConfig | None = None,
        environ: Mapping[str, str] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Open no connection yet.

        Args:
            limits: Bounds on each transfer.
            tls: Authorities and certificate; None for the system's and none.
            environ: Where proxies are named; None for the process's own environment.
            monotonic: Seconds, for the bounds.
            wall: Seconds, as files bear them.

        Raises:
            ConfigError: A TLS file or a proxy cannot be used.
        """
        self._limits = limits or Limits()
        self._monotonic = monotonic
        self._wall = wall
        self._ending = threading.Event()
        self._pools = Pools(self._limits, tls, environ)

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

    def download(
        self, url: str, part: Path, *, length_bytes: int, sha256: str, pieces: Pieces | None = None
    ) -> int:
        """Bring a file to `part`, going on where an earlier attempt ended; returns bytes received.

        On return the file has the signed length and digest and is on disk. Sound bytes that are here are
        asked for again only after an hour in which the server could not serve the rest alone.

        Args:
            url: Where it lies.
            part: Where it goes.
            length_bytes: Its signed length.
            sha256: Its signed digest.
            pieces: With them a damaged download is kept up to the damage.

        Raises:
            DigestMismatchError: The bytes are not the signed ones; `part` keeps the pieces that are, or
                was deleted.
            NetworkError: The link failed; `part` keeps what came.
            DiskFullError: No room; `part` was deleted to leave none of its own.
        """
        file = PartFile(part, length_bytes=length_bytes, pieces=pieces)
        try:
            received = self._fill(url, file, length_bytes)
            file.verify(sha256)
        except DigestMismatchError as error:
            raise DigestMismatchError(f"{url}: {error}") from error
        except OSError as error:
            if error.errno in NO_SPACE:
                part.unlink(missing_ok=True)
                raise DiskFullError(f"no room for {length_bytes} bytes at {part.parent}") from error
            raise StoreError(f"{part}: {error.strerror or error}") from error
        return received

    @property
    def ending(self) -> threading.Event:
        """Set by `abort`: whatever else takes long in an update ends by it, too."""
        return self._ending

    def abort(self) -> None:
        """End transfers under way at their next bytes, and begin none: each fails with NetworkError."""
        self._ending.set()

    def close(self) -> None:
        """Close every connection."""
        self._pools.close()

    def _fill(self, url: str, file: PartFile, length_bytes: int) -> int:
        have = file.resume()
        if have == length_bytes and file.path.exists():
            return 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._open("GET", url, headers) as response:
            have = self._check_range(url, response, file, have, length_bytes)
            received = file.append(have, self._chunks(url, response, length_bytes - have))
        if have + received < length_bytes:
            raise NetworkError(f"{url}: the transfer ended after {have + received} of {length_bytes} bytes")
        return received

    def _check_range(
        self, url: str, response: urllib3.BaseHTTPResponse, file: PartFile, have: int, length_bytes: int
    ) -> int:
        """From which byte on this answer goes; refused before a byte of it is written, if it cannot be it."""
        if response.status == _RANGE_REFUSED:
            self._give_up_part(file)
            raise NetworkError(f"{url}: the server refused to go on at byte {have}")
        _expect_file(url, response)
        if response.status == _PARTIAL:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != have or found[2] not in ("*", str(length_bytes)):
                self._give_up_part(file)
                raise NetworkError(f"{url}: the server sent other bytes than those from {have}")
            return have
        announced = response.headers.get("Content-Length", str(length_bytes))
        if announced != str(length_bytes):
            raise NetworkError(f"{url}: the server announced {announced[:20]} bytes, not {length_bytes}")
        if have and file.idle_s(self._wall()) < _RANGE_PATIENCE_S:
            raise NetworkError(f"{url}: the server cannot go on at byte {have}; what is here is kept")
        return 0

    def _give_up_part(self, file: PartFile) -> None:
        if file.idle_s(self._wall()) >= _RANGE_PATIENCE_S:
            file.drop()

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
            response = self._pools.of(url).request(
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
        ends_at = now + limits.total_s if ends_at is None else ends_at
        # By the true clock: no single read may outlast it, however the bytes of a chunk's length trickle.
        set_deadline(response, time.monotonic() + min(limits.patience_s, ends_at - now))
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
            if now >= ends_at:
                response.close()
                raise NetworkError(f"{url}: not finished in time")
            set_deadline(response, time.monotonic() + min(limits.patience_s, ends_at - now))
            if now - since > limits.patience_s:
                if recent < limits.least_bytes_per_s * (now - since):
                    response.close()
                    raise NetworkError(f"{url}: slower than {limits.least_bytes_per_s:g} bytes a second")
                since, recent = now, 0


def _let_go(response: urllib3.BaseHTTPResponse) -> None:
    """Give the connection back for the next request, or close it where bytes of this one are left on it.

    One read, not a drain: an error's short body is there already, and whoever trickles is not waited for.
    """
    # ValueError: a reader that was left behind is collected in any order, its file before itself.
    with contextlib.suppress(HTTPError, OSError, ValueError):
        if response.length_remaining is not None:
            response.read1(_SHORT_BODY_BYTES)  # also of nothing: only then is the connection ready again
        if response.length_remaining == 0 or response.closed:
            response.release_conn()
            return
    with contextlib.suppress(ValueError):
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


def _answer(response: urllib3.BaseHTTPResponse, body: bytes) -> Answer:
    etag = response.headers.get("ETag", "")
    # An odd one is no reason to trust less, and none to fail: without one, everything is asked for anew.
    usable = len(etag) <= _MAX_ETAG and etag.isascii() and etag.isprintable()
    return Answer(
        status=response.status,
        body=body,
        etag=etag if usable else "",
        retry_after_s=_retry_after(response),
    )


def _retry_after(response: urllib3.BaseHTTPResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    # The HTTP-date form needs a clock that can be trusted; seconds are what servers send.
    return float(min(int(text), _MAX_RETRY_AFTER_S)) if text.isdecimal() and len(text) < 10 else None  # noqa: PLR2004


def _cause(error: Exception) -> str:
    """What the system says where it is the system's word, else what the HTTP library makes of it."""
    reason = getattr(error, "reason", None) or error
    system = reason.__cause__ if isinstance(reason.__cause__, OSError) else None
    if system is not None and system.strerror:
        return system.strerror
    return f"{type(reason).__name__}: {str(reason)[:200]}"
