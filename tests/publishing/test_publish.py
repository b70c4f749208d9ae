"""`publish` against the real server: what arrives, what is sent for it, and what breaks off."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from converter.publishing import client as client_module
from converter.publishing.client import PublishingClient
from converter.publishing.errors import (
    ForeignMetadataError,
    KeyFileError,
    PublishError,
    PublishRefusedError,
    ServerUnreachableError,
)
from converter.publishing.publish import Published, publish
from converter.publishing.signing import key_elsewhere, read_key
from edge_runtime.errors import PackageError
from ota_contract.credentials import Credentials
from tests.support.fleet import Clock, TestServer, start_server
from tests.support.state import fingerprint
from tests.support.tiny import TinyRelease, write_package
from tests.support.tuf_view import of_url

CHUNK = 10_000
PADDED = TinyRelease(padding_bytes=35_000)


def send(
    server: TestServer,
    folder: Path,
    *,
    publisher: str = "vision",
    key: str | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Published:
    credentials = Credentials(server=server.url, token=server.tokens[f"publisher:{publisher}"])
    return publish(folder, credentials, server.key(key or publisher), now=server.clock(), progress=progress)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_CHUNK_BYTES", CHUNK)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    write_package(tmp_path / "package", PADDED)
    return tmp_path / "package"


def test_an_independent_client_fetches_what_was_published(
    server: TestServer, package: Path, tmp_path: Path
) -> None:
    done = send(server, package)
    assert done.sent_bytes == done.total_bytes > 35_000
    view = of_url(server.url, server.trust_root, tmp_path / "client")
    assert view.target("rel/vision/digits/1.0.0.json") == (package / "release.json").read_bytes()
    for file in done.release.files():
        blob = server.data / "blobs" / "sha256" / file.sha256[:2] / file.sha256
        assert blob.read_bytes() == (package / file.path).read_bytes()


def test_an_independent_client_reads_the_policy(server: TestServer, package: Path, tmp_path: Path) -> None:
    send(server, package)
    rollout = server.roll_out("1.0.0")
    view = of_url(server.url, server.trust_root, tmp_path / "client")
    assert view.target("rollout/vision/digits") == b""
    policy = view.policy()
    assert policy is not None
    assert [rule.rollout for rule in policy.rules] == [rollout]


def test_progress_counts_to_the_end(server: TestServer, package: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    done = send(server, package, progress=lambda *step: seen.append(step))
    assert [count for _, count, _ in seen] == sorted({count for _, count, _ in seen})
    assert {total for _, _, total in seen} == {done.total_bytes}
    assert seen[-1][1] == done.total_bytes


def test_publishing_the_same_package_again_sends_nothing(server: TestServer, package: Path) -> None:
    send(server, package)
    before = fingerprint(server.data)
    assert send(server, package).sent_bytes == 0
    assert fingerprint(server.data) == before


def test_other_bytes_under_a_published_version_are_refused_before_the_upload(
    server: TestServer, package: Path, tmp_path: Path
) -> None:
    send(server, package)
    write_package(tmp_path / "other", TinyRelease(counter=2, seed=7, padding_bytes=50_000))
    before = fingerprint(server.data)
    with pytest.raises(PublishError, match=r"1\.0\.0 is published already.*new version"):
        send(server, tmp_path / "other")
    assert fingerprint(server.data) == before


def test_only_what_changed_between_releases_is_sent(
    server: TestServer, package: Path, tmp_path: Path
) -> None:
    send(server, package)
    # The same model and padding, other golden vectors and manifest.
    write_package(
        tmp_path / "next", TinyRelease(version="1.1.0", counter=2, padding_bytes=35_000, golden_is_wrong=True)
    )
    done = send(server, tmp_path / "next")
    golden = done.release.golden.file
    assert done.sent_bytes == golden.length_bytes < done.total_bytes


def test_a_blob_of_another_publisher_is_not_sent_twice(
    server: TestServer, package: Path, tmp_path: Path
) -> None:
    send(server, package)
    write_package(tmp_path / "audio", TinyRelease(model="audio/digits", padding_bytes=35_000))
    assert send(server, tmp_path / "audio", publisher="audio").sent_bytes == 0


# --- what breaks off ---------------------------------------------------------------------------------------


class Died(BaseException):
    """The publisher's process ends here."""


def test_a_publisher_that_dies_resends_nothing_of_what_arrived(server: TestServer, package: Path) -> None:
    arrived = 0

    def die(_: str, done: int, __: int) -> None:
        nonlocal arrived
        arrived = done
        if done > 2 * CHUNK:
            raise Died

    with pytest.raises(Died):
        send(server, package, progress=die)
    done = send(server, package)
    assert done.sent_bytes == done.total_bytes - arrived
    assert arrived > 2 * CHUNK


def test_a_server_that_dies_keeps_what_arrived(server: TestServer, package: Path, tmp_path: Path) -> None:
    arrived = 0

    def stop(_: str, done: int, __: int) -> None:
        nonlocal arrived
        arrived = done
        if done > 2 * CHUNK:
            server.stop()

    with pytest.raises(ServerUnreachableError, match="publish again when it does, what was uploaded is kept"):
        send(server, package, progress=stop)
    later = Clock()
    later.advance(seconds=5)
    again = start_server(tmp_path / "server", publishers=("vision", "audio"), clock=later)
    try:
        done = send(again, package)
        assert done.sent_bytes == done.total_bytes - arrived
    finally:
        again.stop()


def test_half_a_chunk_is_not_counted(server: TestServer, package: Path) -> None:
    """The link breaks in mid-request: what the server holds stays a whole number of chunks."""
    release = json.loads((package / "release.json").read_bytes())
    padding = next(file for file in release["variants"][0]["files"] if file["length"] == 35_000)
    token = server.tokens["publisher:vision"]
    address = urlsplit(server.url)
    path = f"/api/v1/publishers/vision/blobs/{padding['sha256']}?length=35000&offset=0"
    lines = [
        f"PATCH {path} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {token}",
        f"Content-Length: {CHUNK}",
    ]
    head = "\r\n".join([*lines, "", ""])
    with socket.create_connection((address.hostname or "", address.port or 0)) as link:
        link.sendall(head.encode() + b"x" * (CHUNK // 2))
    done = send(server, package)
    assert done.sent_bytes == done.total_bytes


def test_a_file_that_shrinks_during_the_upload_ends_in_one_line(server: TestServer, package: Path) -> None:
    padding = package / "variants" / "onnx-fp32" / "padding.bin"

    def shrink(what: str, _: int, __: int) -> None:
        if what.endswith("padding.bin"):
            padding.write_bytes(b"")

    with pytest.raises(PublishError, match="became shorter"):
        send(server, package, progress=shrink)


def test_a_file_that_changes_during_the_upload_is_refused(server: TestServer, package: Path) -> None:
    padding = package / "variants" / "onnx-fp32" / "padding.bin"

    def change(what: str, _: int, __: int) -> None:
        if what.endswith("padding.bin"):
            padding.write_bytes(bytes(35_000))

    with pytest.raises(PublishRefusedError, match="were dropped"):
        send(server, package, progress=change)
    write_package(package.with_name("again"), PADDED)
    assert send(server, package.with_name("again")).release.version == "1.0.0"


# --- who may not -------------------------------------------------------------------------------------------


def test_a_wrong_key_costs_no_upload(server: TestServer, package: Path) -> None:
    before = fingerprint(server.data)
    with pytest.raises(ForeignMetadataError, match="signed with another key"):
        send(server, package, key="audio")
    assert fingerprint(server.data) == before


def test_a_foreign_token_costs_no_upload(server: TestServer, package: Path) -> None:
    before = fingerprint(server.data)
    with pytest.raises(PublishRefusedError, match="publishes as audio") as refusal:
        send(server, package, publisher="audio", key="vision")
    assert refusal.value.status == 403
    assert fingerprint(server.data) == before


def test_an_unknown_publisher_is_told_so(server: TestServer, tmp_path: Path) -> None:
    write_package(tmp_path / "ghost", TinyRelease(model="ghost/digits"))
    with pytest.raises(PublishRefusedError):
        send(server, tmp_path / "ghost")


def test_a_damaged_package_is_not_sent(server: TestServer, package: Path) -> None:
    before = fingerprint(server.data)
    with (package / "variants" / "onnx-fp32" / "padding.bin").open("r+b") as stream:
        stream.write(b"x")
    with pytest.raises(PackageError):
        send(server, package)
    assert fingerprint(server.data) == before


@pytest.mark.parametrize(
    "content", [None, b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_key_file_that_is_none_is_told_so(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeyFileError, match=r"key\.pem"):
        read_key(path)


def public_half(server: TestServer, path: Path) -> Path:
    pem = (server.root / "keys" / "publishers" / "vision.pem").read_bytes()
    public = load_pem_private_key(pem, None).public_key()
    path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def test_a_key_held_elsewhere_signs_by_its_uri(server: TestServer, package: Path, tmp_path: Path) -> None:
    """Through securesystemslib, as a KMS would; the file scheme needs no service."""
    pem = server.root / "keys" / "publishers" / "vision.pem"
    key = key_elsewhere(f"file2:{pem}", public_half(server, tmp_path / "vision.pub"))
    credentials = Credentials(server=server.url, token=server.tokens["publisher:vision"])
    done = publish(package, credentials, key, now=server.clock())
    assert done.release.version == "1.0.0"


@pytest.mark.parametrize(
    "uri", ["file2:/nowhere/at/all.pem", "nosuchscheme:x", "no uri", "awskms:alias/x", ""]
)
def test_a_uri_that_leads_to_no_key_is_told_so(uri: str, server: TestServer, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError):
        key_elsewhere(uri, public_half(server, tmp_path / "vision.pub"))


def test_a_public_half_that_is_none_is_told_so(server: TestServer, tmp_path: Path) -> None:
    pem = server.root / "keys" / "publishers" / "vision.pem"
    with pytest.raises(KeyFileError, match=r"vision\.pem is not a PEM public key"):
        key_elsewhere(f"file2:{pem}", pem)
    with pytest.raises(KeyFileError, match="missing"):
        key_elsewhere(f"file2:{pem}", tmp_path / "missing")


def test_a_uri_of_another_key_is_told_so(server: TestServer, tmp_path: Path) -> None:
    pem = server.root / "keys" / "publishers" / "audio.pem"
    with pytest.raises(KeyFileError, match="does not match"):
        key_elsewhere(f"file2:{pem}", public_half(server, tmp_path / "vision.pub"))


def test_a_public_key_is_no_publishers_key(tmp_path: Path, server: TestServer) -> None:
    public = server.key().signer.public_key.keyval["public"]
    path = tmp_path / "key.pem"
    path.write_text(public)
    with pytest.raises(KeyFileError):
        read_key(path)


@pytest.mark.parametrize(("version", "counter", "floor"), [("0.9.0", 3, 0), ("1.1.0", 2, 0), ("1.1.0", 4, 1)])
def test_a_release_behind_the_last_one_is_refused(
    version: str, counter: int, floor: int, server: TestServer, tmp_path: Path
) -> None:
    server.publish(TinyRelease(counter=3, floor=2))
    write_package(tmp_path / "next", TinyRelease(version=version, counter=counter, floor=floor))
    before = fingerprint(server.data)
    with pytest.raises(PublishRefusedError) as refusal:
        send(server, tmp_path / "next")
    assert refusal.value.kind == "urn:ferry:problem:counter"
    assert fingerprint(server.data) == before


def test_a_passed_quota_leaves_nothing_behind(tmp_path: Path) -> None:
    server = start_server(tmp_path / "server", quota_bytes=20_000)
    try:
        write_package(tmp_path / "package", PADDED)
        before = fingerprint(server.data)
        with pytest.raises(PublishRefusedError, match="ferry serve --quota-mb"):
            send(server, tmp_path / "package")
        after = fingerprint(server.data)
        assert {name for name in after if "padding" in name or name.startswith("uploads/")} == set()
        assert {name: after[name] for name in before if name != "database"} == {
            name: digest for name, digest in before.items() if name != "database"
        }
    finally:
        server.stop()


# --- several at once ---------------------------------------------------------------------------------------


def test_a_release_published_between_signing_and_handing_over_is_signed_over(
    server: TestServer, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two builds of one publisher: the second signs again, on top of the first."""
    hand_over = PublishingClient.publish
    raced: list[str] = []

    def race(self: PublishingClient, manifest: bytes, metadata: bytes) -> None:
        if len(raced) < 2:
            raced.append("")
            monkeypatch.setattr(PublishingClient, "publish", hand_over)
            server.publish(TinyRelease(model="vision/faces", version=f"1.0.{len(raced)}", counter=len(raced)))
            monkeypatch.setattr(PublishingClient, "publish", race)
        hand_over(self, manifest, metadata)

    monkeypatch.setattr(PublishingClient, "publish", race)
    assert send(server, package).release.version == "1.0.0"
    assert len(raced) == 2
    models = {item["model"]: item["releases"] for item in server.client().get("models")["models"]}
    assert models == {"vision/digits": 1, "vision/faces": 2}


def test_losing_every_race_ends_in_the_servers_own_line(
    server: TestServer, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over = PublishingClient.publish
    count = 0

    def race(self: PublishingClient, manifest: bytes, metadata: bytes) -> None:
        nonlocal count
        count += 1
        monkeypatch.setattr(PublishingClient, "publish", hand_over)
        server.publish(TinyRelease(model="vision/faces", version=f"1.0.{count}", counter=count))
        monkeypatch.setattr(PublishingClient, "publish", race)
        hand_over(self, manifest, metadata)

    monkeypatch.setattr(PublishingClient, "publish", race)
    with pytest.raises(PublishRefusedError, match="publish again"):
        send(server, package)
    monkeypatch.setattr(PublishingClient, "publish", hand_over)
    assert send(server, package).release.version == "1.0.0"
