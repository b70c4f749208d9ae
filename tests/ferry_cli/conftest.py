from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ferry_cli.__main__ import main


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a command sent."""

    method: str
    path: str
    token: str
    body: Any


@dataclass
class Api:
    """A tiny real HTTP server with scripted answers."""

    url: str = ""
    answers: dict[tuple[str, str], list[tuple[int, bytes]]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def answer(self, method: str, path: str, *contents: Any, status: int = 200) -> None:
        """Script the answers to a request, the last one for good."""
        bodies = [item if isinstance(item, bytes) else json.dumps(item).encode() for item in contents]
        self.answers[method, path] = [(status, body) for body in bodies]

    def take(self, request: Request) -> tuple[int, bytes]:
        self.requests.append(request)
        answers = self.answers.get((request.method, request.path))
        if answers is None:
            return 404, b'{"title": "Not Found", "detail": "nothing of that name"}'
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            sent = json.loads(body) if body else None
            status, answer = api.take(Request(method=self.command, path=self.path, token=token, body=sent))
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_port}"
    yield api
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees this machine's own credentials."""
    path = tmp_path / "config" / "credentials.json"
    monkeypatch.setenv("FERRY_CONFIG", str(path))
    monkeypatch.delenv("FERRY_SERVER", raising=False)
    monkeypatch.delenv("FERRY_TOKEN", raising=False)
    return path


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Ferry = Callable[..., Result]


@pytest.fixture
def ferry(capsys: pytest.CaptureFixture[str]) -> Ferry:
    def run(*arguments: str) -> Result:
        capsys.readouterr()
        try:
            code = main(arguments)
        except SystemExit as stop:  # argparse's own way out
            code = stop.code if isinstance(stop.code, int) else 1
        captured = capsys.readouterr()
        return Result(code=code, out=captured.out, err=captured.err)

    return run


@pytest.fixture
def logged_in(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("FERRY_SERVER", api.url)
    monkeypatch.setenv("FERRY_TOKEN", "secret")
    return api
