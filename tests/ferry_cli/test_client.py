from __future__ import annotations

import socket
import threading

import pytest

from ferry_cli.client import Client
from ferry_cli.credentials import Credentials
from ferry_cli.errors import CommandError, RefusedError, UnreachableError
from tests.ferry_cli.conftest import Api


@pytest.fixture
def client(api: Api) -> Client:
    return Client(Credentials(server=api.url, token="secret"))


def test_every_verb_carries_the_token_and_json(api: Api, client: Client) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        api.answer(method, "/api/v1/things/a", {"method": method})
    assert client.get("things", "a") == {"method": "GET"}
    assert client.post("things", "a", body={"x": 1}) == {"method": "POST"}
    assert client.put("things", "a", body={"x": 2}) == {"method": "PUT"}
    assert client.delete("things", "a") == {"method": "DELETE"}
    assert [request.token for request in api.requests] == ["secret"] * 4
    assert [request.body for request in api.requests] == [None, {"x": 1}, {"x": 2}, None]


def test_what_a_person_types_stays_within_its_segment(api: Api, client: Client) -> None:
    api.answer("GET", "/api/v1/cohorts/a%3Fb%23c%20%C3%A4/preview", {})
    assert client.get("cohorts", "a?b#c ä", "preview") == {}
    api.answer("GET", "/api/v1/models/vision/digits/releases", {})
    assert client.get("models", "vision/digits", "releases") == {}


def test_absent_queries_are_left_out(api: Api, client: Client) -> None:
    api.answer("GET", "/api/v1/devices?limit=5", {"devices": []})
    assert client.get("devices", cohort=None, limit=5) == {"devices": []}


def test_an_empty_answer_is_nothing(api: Api, client: Client) -> None:
    api.answer("DELETE", "/api/v1/devices/a", b"", status=204)
    assert client.delete("devices", "a") is None


@pytest.mark.parametrize(
    ("status", "answer", "told"),
    [
        (404, b'{"title": "Not Found", "detail": "no rollout r1"}', "no rollout r1"),
        (409, b'{"title": "Conflict"}', "Conflict"),
        (500, b"{}", "HTTP 500"),
        (502, b"[]", "HTTP 502"),
        (403, b'"text"', "HTTP 403"),
        (400, b"", "HTTP 400"),
        (302, b"", "HTTP 302"),
    ],
)
def test_a_refusal_is_told_in_the_servers_words(
    api: Api, client: Client, status: int, answer: bytes, told: str
) -> None:
    api.answer("GET", "/api/v1/x", answer, status=status)
    with pytest.raises(RefusedError, match=f"^{told}$"):
        client.get("x")


def test_what_does_not_speak_json_is_no_ferry_server(api: Api, client: Client) -> None:
    api.answer("GET", "/api/v1/x", b"<html>Welcome to the hotel</html>")
    with pytest.raises(CommandError, match="is not a Ferry server"):
        client.get("x")


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = Client(Credentials(server=f"http://127.0.0.1:{port}", token="t"))
    with pytest.raises(
        UnreachableError, match=rf"http://127\.0\.0\.1:{port} does not answer .*is it running"
    ):
        client.get("x")


@pytest.mark.parametrize("server", ["no-scheme", "ftp://x", "http://", "http://[::1", "http://x:99999999"])
def test_an_impossible_url_is_an_error_in_words(server: str) -> None:
    with pytest.raises(CommandError):
        Client(Credentials(server=server, token="t")).get("x")


def test_an_answer_cut_off_is_told_from_a_whole_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def half() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"a":')

        thread = threading.Thread(target=half)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(CommandError):
            Client(Credentials(server=url, token="t")).get("x")
        thread.join()
