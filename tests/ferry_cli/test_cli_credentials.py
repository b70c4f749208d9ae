from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import pytest

from ferry_cli.credentials import Credentials, read_credentials, remember
from ferry_cli.errors import CommandError, NotLoggedInError
from tests.ferry_cli.conftest import Api, Ferry

ONE = Credentials(server="https://one.example", token="t1")
TWO = Credentials(server="https://two.example", token="t2")


def test_what_is_remembered_is_read_back_and_the_last_is_the_default(config: Path) -> None:
    assert remember(ONE) == config
    remember(TWO)
    assert read_credentials(None, None) == TWO
    assert read_credentials(ONE.server, None) == ONE
    assert read_credentials(f"{ONE.server}/", None) == ONE


def test_the_file_is_its_owners_alone(config: Path) -> None:
    remember(ONE)
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
    assert list(config.parent.iterdir()) == [config]


def test_a_file_open_to_others_is_closed_when_written_again(config: Path) -> None:
    remember(ONE)
    config.chmod(0o644)
    remember(TWO)
    assert stat.S_IMODE(config.stat().st_mode) == 0o600


def test_options_come_before_the_environment_and_that_before_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remember(ONE)
    monkeypatch.setenv("FERRY_SERVER", TWO.server)
    monkeypatch.setenv("FERRY_TOKEN", "from the environment")
    assert read_credentials(None, None) == Credentials(server=TWO.server, token="from the environment")
    assert read_credentials("http://three", "t3") == Credentials(server="http://three", token="t3")


def test_what_is_missing_is_told_with_the_way_to_provide_it() -> None:
    with pytest.raises(NotLoggedInError, match="ferry login URL"):
        read_credentials(None, None)
    with pytest.raises(NotLoggedInError, match="ferry login http://x"):
        read_credentials("http://x/", None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"servers": []}',
        b'{"servers": {"http://x": "t"}}',
        b'{"servers": {"http://x": {"token": 1}}}',
        b'{"default": 1}',
    ],
)
def test_a_damaged_file_is_named_and_left_as_it_is(config: Path, content: bytes) -> None:
    config.parent.mkdir()
    config.write_bytes(content)
    with pytest.raises(CommandError, match=r"credentials\.json .*log in again"):
        read_credentials("http://x", None)
    with pytest.raises(CommandError):
        remember(ONE)
    assert config.read_bytes() == content


def test_a_place_that_cannot_be_written_is_an_error_in_words(config: Path) -> None:
    config.parent.write_text("a file where a folder should be")
    with pytest.raises(CommandError, match=r"credentials\.json"):
        remember(ONE)


def test_login_tries_the_token_and_keeps_it(ferry: Ferry, api: Api, config: Path) -> None:
    api.answer("GET", "/api/v1/whoami", {"name": "ada", "role": "fleet_manager"})
    result = ferry("login", f"{api.url}/", "--token", " secret\n")
    assert (result.code, result.err) == (0, "")
    assert result.out == f"logged in to {api.url} as ada (fleet_manager)\n"
    assert api.requests[0].token == "secret"
    assert json.loads(config.read_text())["servers"] == {api.url: {"token": "secret"}}
    assert ferry("login", api.url, "--token", "secret", "--json").json["role"] == "fleet_manager"


def test_login_reads_the_token_from_a_pipe(ferry: Ferry, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.answer("GET", "/api/v1/whoami", {"name": "ada", "role": "viewer"})
    monkeypatch.setattr("sys.stdin", io.StringIO("piped\n"))
    assert ferry("login", api.url).code == 0
    assert api.requests[0].token == "piped"


def test_a_token_the_server_refuses_is_not_kept(ferry: Ferry, api: Api, config: Path) -> None:
    api.answer("GET", "/api/v1/whoami", {"detail": "no such token"}, status=401)
    result = ferry("login", api.url, "--token", "wrong")
    assert (result.code, result.err) == (1, "ferry: no such token\n")
    assert not config.exists()


@pytest.mark.parametrize("answer", [b"{}", b"[]", b"null", b"", b"<html>", b'{"name": "x"}'])
def test_what_is_no_ferry_server_is_told_so(ferry: Ferry, api: Api, config: Path, answer: bytes) -> None:
    api.answer("GET", "/api/v1/whoami", answer)
    result = ferry("login", api.url, "--token", "t")
    assert result.code == 1
    assert "is not a Ferry server" in result.err
    assert not config.exists()


def test_an_empty_token_is_refused_before_anything_is_sent(ferry: Ferry, api: Api) -> None:
    assert ferry("login", api.url, "--token", " ").code == 1
    assert api.requests == []
