"""Encrypted key files: every command takes them, and the passphrase is written nowhere."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from converter.publishing.errors import KeyFileError as PublisherKeyError
from converter.publishing.signing import read_key
from ota_server.adapters.key_files import read_private
from ota_server.adapters.keys import Threshold, init_keys
from ota_server.app import create_app
from ota_server.errors import KeyFileError
from ota_server.operations.reconciler import tick
from ota_server.settings import Settings, no_secrets
from tests.support.calls import Caller
from tests.support.ceremonies import Table, ferry
from tests.support.fleet import Clock
from tests.support.registry import Bench
from tests.support.state import fingerprint, holds_bytes
from tests.support.tiny import TinyRelease, write_package
from tests.support.tuf_view import versions

PASSPHRASE = "correct horse battery staple"
OTHER = "another passphrase altogether"
VARIABLE = "FERRY_KEY_PASSPHRASE"
ONE = Threshold(needed=1, keys=1)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """A folder whose every key is encrypted."""
    clock = Clock()
    init_keys(tmp_path / "keys", ["vision"], root=ONE, targets=ONE, now=clock(), passphrase=PASSPHRASE)
    return Table(Bench(root=tmp_path, clock=clock))


@pytest.fixture
def passphrase_file(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase.txt"
    path.write_text(f"{PASSPHRASE}\nnot this line\n")
    return path


def test_every_key_file_is_encrypted_and_opens_with_the_passphrase_alone(
    tmp_path: Path, passphrase_file: Path
) -> None:
    folder = tmp_path / "new"
    said = ferry("keys", "init", folder, "--publisher", "vision", "--passphrase-file", passphrase_file).ok()
    assert "not encrypted" not in said.out.lower()
    files = list(folder.rglob("*.pem"))
    assert len(files) == 8
    for path in files:
        assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        load_pem_private_key(path.read_bytes(), PASSPHRASE.encode())
        with pytest.raises(KeyFileError, match="does not open"):
            read_private(path, lambda _: OTHER)
        with pytest.raises(KeyFileError, match="is encrypted"):
            read_private(path, no_secrets)
    assert holds_bytes(folder, PASSPHRASE.encode()) == []


def test_plain_keys_are_called_what_they_are(tmp_path: Path) -> None:
    assert "Not encrypted" in ferry("keys", "init", tmp_path / "keys", "--publisher", "vision").ok().out
    assert "Not encrypted" in ferry("keys", "new", tmp_path / "a.pem").ok().out


def test_the_environment_encrypts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    said = ferry("keys", "new", tmp_path / "a.pem", "--json").ok()
    assert said.json["encrypted"] is True
    assert read_private(tmp_path / "a.pem", lambda _: PASSPHRASE).public_key.keyid == said.json["id"]


@pytest.mark.parametrize(
    ("content", "saying"), [(None, "No such file"), ("", "is empty"), ("short\n", "shorter than 12")]
)
def test_a_passphrase_that_is_none_makes_no_keys(content: str | None, saying: str, tmp_path: Path) -> None:
    path = tmp_path / "passphrase.txt"
    if content is not None:
        path.write_text(content)
    for arguments in (("init", tmp_path / "keys", "--publisher", "vision"), ("new", tmp_path / "a.pem")):
        ferry("keys", *arguments, "--passphrase-file", path).refused(saying)
    assert {item.name for item in tmp_path.iterdir()} <= {"passphrase.txt"}


def test_asked_for_where_nobody_can_answer_is_a_refusal(tmp_path: Path) -> None:
    ferry("keys", "new", tmp_path / "a.pem", "--encrypt").refused("asks at a terminal")
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_is_asked_twice_and_shows_nothing(tmp_path: Path) -> None:
    """A real terminal: what is typed is not echoed, and a slip of the finger makes no key."""
    for second, code in ((OTHER, 1), (PASSPHRASE, 0)):
        master, slave = pty.openpty()
        command = [sys.executable, "-m", "ferry_cli", "keys", "new", str(tmp_path / "a.pem"), "--encrypt"]
        with subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        ) as process:
            os.close(slave)
            shown = b""
            for prompt, answer in ((b"new passphrase: ", PASSPHRASE), (b"once more: ", second)):
                while prompt not in shown:
                    shown += os.read(master, 1024)
                os.write(master, answer.encode() + b"\n")
            while True:
                try:
                    shown += os.read(master, 1024)
                except OSError:  # the terminal is closed
                    break
            assert process.wait(60) == code, shown
        os.close(master)
        assert PASSPHRASE.encode() not in shown
        assert (tmp_path / "a.pem").exists() is (code == 0)
    read_private(tmp_path / "a.pem", lambda _: PASSPHRASE)


def test_a_server_signs_with_encrypted_keys(table: Table, passphrase_file: Path) -> None:
    command = [sys.executable, "-m", "ferry_cli", "serve", "--data", str(table.data), "--port", "0", "--json"]
    for options, environment in (
        (["--passphrase-file", str(passphrase_file)], {}),
        ([], {VARIABLE: PASSPHRASE}),
    ):
        with subprocess.Popen(
            [*command, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        ) as process:
            try:
                assert process.stdout is not None
                url = json.loads(process.stdout.readline())["url"]
                assert Caller(url)("GET", "/healthz").json == {"status": "ok"}
            finally:
                process.terminate()
                _, errors = process.communicate(timeout=60)
        assert PASSPHRASE not in errors


def test_a_server_without_the_passphrase_does_not_start(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would serve for three days, and find out when the timestamp has to be signed."""
    ferry("serve", "--data", table.data, "--port", 0).refused("give its passphrase with --passphrase-file")
    monkeypatch.setenv(VARIABLE, OTHER)
    said = ferry("serve", "--data", table.data, "--port", 0).refused("the passphrase does not open")
    assert OTHER not in said.err


def test_it_signs_anew_with_them(table: Table) -> None:
    clock = table.bench.clock
    settings = Settings(data=table.data, tick_s=0, secrets=lambda _: PASSPHRASE)
    services = create_app(settings, clock=clock).state.services
    before = versions(table.data)
    clock.advance(days=16)  # type: ignore[attr-defined]
    tick(services)
    after = versions(table.data)
    assert {role for role in after if after[role] > before[role]} == {"timestamp", "snapshot", "ro-vision"}
    table.bench.view().refreshed()
    assert PASSPHRASE not in repr(settings)


def test_a_ceremony_with_them(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new online key is encrypted as the others are; without the passphrase there is none."""
    path = table.bench.root / "request.json"
    arguments = ("rotate", "timestamp", "--data", table.data, "-o", path)
    before = sorted((table.data / "keys").iterdir())
    ferry("keys", *arguments).refused("is encrypted")
    monkeypatch.setenv(VARIABLE, OTHER)
    ferry("keys", *arguments).refused("does not open")
    assert sorted((table.data / "keys").iterdir()) == before
    assert not path.exists()
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    ferry("keys", *arguments).ok()
    table.sign(path, table.offline("root-1"))
    assert PASSPHRASE not in path.read_text()
    monkeypatch.delenv(VARIABLE)
    unmoved = fingerprint(table.data)
    table.bring_in(path).refused("is encrypted")
    assert fingerprint(table.data) == unmoved
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    table.bring_in(path).ok()
    (new,) = set((table.data / "keys").iterdir()) - set(before)
    load_pem_private_key(new.read_bytes(), PASSPHRASE.encode())
    listed = ferry("keys", "status", "--data", table.data, "--json").json
    states = {item["role"]: item["key_state"] for item in listed}
    assert states["timestamp"] == "encrypted"


def test_where_the_servers_keys_are_plain_the_new_one_is_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server that runs was given no passphrase: an encrypted key would silence it."""
    clock = Clock()
    init_keys(tmp_path / "keys", ["vision"], root=ONE, targets=ONE, now=clock())
    table = Table(Bench(root=tmp_path, clock=clock))
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    said = ferry("keys", "rotate", "timestamp", "--data", table.data, "--key", table.offline("root-1")).ok()
    assert "is not encrypted" in said.out
    monkeypatch.delenv(VARIABLE)
    table.bench.open()
    table.bench.view().refreshed()


def test_a_publisher_signs_with_an_encrypted_key(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passphrase_file: Path
) -> None:
    key = table.publisher()
    with pytest.raises(PublisherKeyError, match="is encrypted"):
        read_key(key)
    with pytest.raises(PublisherKeyError, match="does not open"):
        read_key(key, lambda _: OTHER)
    write_package(tmp_path / "package", TinyRelease())
    # No server answers there: the key comes first.
    nowhere = ("--server", "http://127.0.0.1:9", "--token", "x")
    publish = ("publish", tmp_path / "package", "--key", key, *nowhere)
    ferry(*publish).refused("give --passphrase-file, or set FERRY_KEY_PASSPHRASE")
    monkeypatch.setenv(VARIABLE, OTHER)
    said = ferry(*publish).refused("the passphrase does not open")
    assert OTHER not in said.err
    ferry(*publish, "--passphrase-file", tmp_path / "none").refused("passphrase file")
    ferry(*publish, "--passphrase-file", passphrase_file).refused("127.0.0.1:9")
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    ferry(*publish).refused("127.0.0.1:9")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="OpenSSL's command is not here")
def test_openssl_writes_what_we_read_and_reads_what_we_write(tmp_path: Path) -> None:
    """The way to change a passphrase, or to give one to a plain key, in docs/operations/keys.md."""
    plain, public = tmp_path / "a.pem", tmp_path / "a.pub"
    ferry("keys", "new", plain).ok()
    environment = {**os.environ, VARIABLE: PASSPHRASE}
    encrypted = tmp_path / "b.pem"
    subprocess.run(
        [
            *("openssl", "pkcs8", "-topk8", "-scrypt", "-in", plain, "-out", encrypted),
            *("-passout", f"env:{VARIABLE}"),
        ],
        check=True,
        env=environment,
    )
    ours = read_private(plain, no_secrets).public_key
    assert read_private(encrypted, lambda _: PASSPHRASE).public_key == ours
    shown = subprocess.run(
        ["openssl", "pkey", "-in", encrypted, "-pubout", "-passin", f"env:{VARIABLE}"],
        check=True,
        env=environment,
        capture_output=True,
    ).stdout
    assert shown == public.read_bytes()
