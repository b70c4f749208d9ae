"""The publishing client against servers that are none, or mean no good."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from converter.publishing.client import PublishingClient
from converter.publishing.errors import LoginError, PublishRefusedError, ServerUnreachableError
from ota_contract.credentials import Credentials
from ota_contract.manifest import File, FileRole

FILE = File(path="model.onnx", length_bytes=10, sha256="a" * 64, role=FileRole.MODEL)


class Fake(ThreadingHTTPServer):
    """Answers every request alike."""

    daemon_threads = True
    status = 200
    answer: bytes = b"{}"
    requests = 0


class _Handler(BaseHTTPRequestHandler):
    server: Fake

    def handle_any(self) -> None:
        self.server.requests += 1
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    do_GET = do_PATCH = do_POST = handle_any  # noqa: N815 - http.server's names

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def client(fake: Fake, token: str = "token") -> PublishingClient:
    return PublishingClient(
        Credentials(server=f"http://127.0.0.1:{fake.server_address[1]}", token=token), "vision"
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes(10))
    return path


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>hotel wi-fi</html>",
        b"[]",
        b"null",
        b"{}",
        b'{"complete": "yes", "offset": 0}',
        b'{"complete": false, "offset": -1}',
        b'{"complete": false, "offset": 1e99}',
        b'{"complete": false}',
        b"\xff\xfe",
    ],
)
def test_an_answer_of_another_kind_of_server_ends_in_one_line(answer: bytes, fake: Fake) -> None:
    fake.answer = answer
    with pytest.raises(ServerUnreachableError, match="not a Ferry server"):
        client(fake).upload_state(FILE)


def test_a_server_that_keeps_nothing_is_not_sent_the_file_for_ever(fake: Fake, file: Path) -> None:
    fake.answer = json.dumps({"complete": False, "offset": 0}).encode()
    with pytest.raises(ServerUnreachableError, match="keeps none"):
        client(fake).upload(FILE, file, 0, lambda _: None)
    assert fake.requests == 1


@pytest.mark.parametrize("offset", [0, 3, 10])
def test_a_server_that_keeps_moving_the_upload_is_given_up(offset: int, fake: Fake, file: Path) -> None:
    fake.status = 409
    fake.answer = json.dumps({"detail": "elsewhere", "offset": offset}).encode()
    with pytest.raises(PublishRefusedError, match="elsewhere"):
        client(fake).upload(FILE, file, 0, lambda _: None)
    assert fake.requests < 20


@pytest.mark.parametrize("offset", [-1, 11, 2**70])
def test_an_offset_outside_the_file_is_no_place_to_go_on(offset: int, fake: Fake, file: Path) -> None:
    fake.status = 409
    fake.answer = json.dumps({"detail": "elsewhere", "offset": offset}).encode()
    with pytest.raises(PublishRefusedError, match="elsewhere"):
        client(fake).upload(FILE, file, 0, lambda _: None)
    assert fake.requests == 1


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (b'{"detail": "no room"}', "no room"),
        (b'{"title": "Bad Gateway"}', "Bad Gateway"),
        (b"<html>", "HTTP 502"),
        (b"[1]", "HTTP 502"),
        (b"", "HTTP 502"),
    ],
)
def test_a_refusal_is_passed_on_in_its_own_words(answer: bytes, line: str, fake: Fake) -> None:
    fake.status, fake.answer = 502, answer
    with pytest.raises(PublishRefusedError, match=line) as refusal:
        client(fake).metadata()
    assert refusal.value.status == 502


def test_a_redirect_is_not_followed_with_the_token(fake: Fake) -> None:
    fake.status, fake.answer = 302, b""
    with pytest.raises(PublishRefusedError, match="HTTP 302"):
        client(fake).metadata()
    assert fake.requests == 1


@pytest.mark.parametrize("token", ["two\nlines", "日本"])
def test_a_token_no_header_can_carry_is_told_so(token: str, fake: Fake) -> None:
    with pytest.raises(LoginError, match="ferry login"):
        client(fake, token).metadata()
    assert fake.requests == 0


@pytest.mark.parametrize("server", ["http://127.0.0.1:1", "http://[", "ftp://x"])
def test_a_server_that_is_not_there_ends_in_one_line(server: str) -> None:
    with pytest.raises(ServerUnreachableError, match="does not answer") as refusal:
        PublishingClient(Credentials(server=server, token="t"), "vision").metadata()
    assert "\n" not in str(refusal.value)
