"""What a publisher, or somebody with its token or its key, cannot make the server publish."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    Snapshot,
    TargetFile,
    Targets,
)

from converter.publishing.signing import read_key
from ota_server.domain.access import Principal, Role
from ota_server.operations.access import create_token, revoke_token
from tests.support.calls import Answer, Caller
from tests.support.fleet import TestServer, start_server
from tests.support.state import fingerprint
from tests.support.tiny import TinyRelease, write_package
from tests.support.tuf_view import of_url

PATH = "rel/vision/digits/2.0.0.json"
OLD_PATH = "rel/vision/digits/1.0.0.json"


@dataclass(slots=True, kw_only=True)
class Desk:
    """A publisher with 1.0.0 (counter 5, floor 3) out, and everything ready to publish 2.0.0."""

    server: TestServer
    manifest: bytes
    current: bytes

    def next(self, manifest: bytes | None = None, path: str = PATH) -> Metadata[Targets]:
        """Honest metadata that adds a release, unsigned."""
        metadata: Metadata[Targets] = Metadata.from_bytes(self.current)
        metadata.signed.targets[path] = TargetFile.from_data(path, manifest or self.manifest, ["sha256"])
        metadata.signed.version += 1
        return metadata

    def signed(self, metadata: Metadata[Any], signer: Signer | None = None) -> bytes:
        """Sign with vision's key, or another."""
        metadata.sign(signer or self.server.key("vision").signer)
        return metadata.to_bytes()

    def send(
        self,
        metadata: bytes | str,
        manifest: bytes | None = None,
        publisher: str = "vision",
        by: str = "vision",
    ) -> Answer:
        """Hand over."""
        text = metadata if isinstance(metadata, str) else metadata.decode()
        body = {"manifest": (manifest or self.manifest).decode(), "metadata": text}
        call = Caller(self.server.url, self.server.tokens[f"publisher:{by}"])
        return call("POST", f"publishers/{publisher}/releases", body)


def upload_and_read(server: TestServer, folder: Path, publisher: str = "vision") -> bytes:
    """Bring a package's blobs without publishing it; returns the manifest."""
    manifest = (folder / "release.json").read_bytes()
    call = Caller(server.url, server.tokens[f"publisher:{publisher}"])
    document = json.loads(manifest)
    files = [document["golden"]["file"], *document["variants"][0]["files"]]
    for file in files:
        path = f"publishers/{publisher}/blobs/{file['sha256']}?length={file['length']}&offset=0"
        assert call("PATCH", path, raw=(folder / file["path"]).read_bytes()).status == 200
    return manifest


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    root = tmp_path_factory.mktemp("desk")
    server = start_server(root, publishers=("vision", "audio"))
    server.publish(TinyRelease(counter=5, floor=3))
    write_package(root / "next", TinyRelease(version="2.0.0", counter=6, floor=3, seed=1))
    manifest = upload_and_read(server, root / "next")
    call = Caller(server.url, server.tokens["publisher:vision"])
    yield Desk(server=server, manifest=manifest, current=call("GET", "publishers/vision/metadata").body)
    server.stop()


@pytest.fixture
def unmoved(desk: Desk) -> Iterator[None]:
    """Published files, blobs and database are byte for byte what they were."""
    before = fingerprint(desk.server.data)
    yield
    assert fingerprint(desk.server.data) == before


def tampered(change: Callable[[Metadata[Targets]], None]) -> Callable[[Desk], bytes]:
    def make(desk: Desk) -> bytes:
        metadata = desk.next()
        change(metadata)
        return desk.signed(metadata)

    return make


def drop_old(metadata: Metadata[Targets]) -> None:
    del metadata.signed.targets[OLD_PATH]


def change_old(metadata: Metadata[Targets]) -> None:
    metadata.signed.targets[OLD_PATH].hashes["sha256"] = "0" * 64


def annotate_old(metadata: Metadata[Targets]) -> None:
    metadata.signed.targets[OLD_PATH].unrecognized_fields["custom"] = {"x": 1}


def add_second(metadata: Metadata[Targets]) -> None:
    path = "rel/vision/digits/9.0.0.json"
    metadata.signed.targets[path] = TargetFile.from_data(path, b"x", ["sha256"])


def add_foreign(metadata: Metadata[Targets]) -> None:
    path = "rel/audio/keywords/1.0.0.json"
    metadata.signed.targets[path] = TargetFile.from_data(path, b"x", ["sha256"])


def add_policy(metadata: Metadata[Targets]) -> None:
    path = "rollout/vision/digits"
    metadata.signed.targets[path] = TargetFile.from_data(path, b"", ["sha256"])


def add_nothing(metadata: Metadata[Targets]) -> None:
    del metadata.signed.targets[PATH]


def pin_other_bytes(metadata: Metadata[Targets]) -> None:
    metadata.signed.targets[PATH].hashes["sha256"] = "0" * 64


def pin_other_length(metadata: Metadata[Targets]) -> None:
    metadata.signed.targets[PATH].length += 1


def more_digests(metadata: Metadata[Targets]) -> None:
    metadata.signed.targets[PATH].hashes["sha512"] = "0" * 128


def other_digest(metadata: Metadata[Targets]) -> None:
    metadata.signed.targets[PATH].hashes = {"sha512": "0" * 128}


def same_version(metadata: Metadata[Targets]) -> None:
    metadata.signed.version -= 1


def skip_version(metadata: Metadata[Targets]) -> None:
    metadata.signed.version += 1


def huge_version(metadata: Metadata[Targets]) -> None:
    metadata.signed.version = 2**63


def expired(metadata: Metadata[Targets]) -> None:
    metadata.signed.expires -= timedelta(days=366)


def delegates(metadata: Metadata[Targets]) -> None:
    key = CryptoSigner.generate_ed25519().public_key
    role = DelegatedRole("helper", [key.keyid], 1, terminating=False, paths=["rel/vision/*/*.json"])
    metadata.signed.delegations = Delegations(keys={key.keyid: key}, roles={"helper": role})


UNTRUSTED = {
    expired: "expired",
    delegates: "delegates",
    more_digests: "SHA-256 alone",
    other_digest: "SHA-256 alone",
}
REFUSED = {
    drop_old: "changes or drops",
    change_old: "changes or drops",
    annotate_old: "changes or drops",
    add_second: "9.0.0",
    add_foreign: "audio",
    add_policy: "rollout/vision/digits",
    add_nothing: "adds nothing",
    pin_other_bytes: "other bytes",
    pin_other_length: "other bytes",
}
RACED = (same_version, skip_version, huge_version)


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize("change", UNTRUSTED, ids=lambda change: change.__name__)
def test_metadata_no_device_should_see_is_refused(change: Callable[..., None], desk: Desk) -> None:
    answer = desk.send(tampered(change)(desk))
    answer.refused(422, "untrusted-metadata", saying=UNTRUSTED[change])


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
def test_metadata_adds_exactly_the_release_it_comes_with(change: Callable[..., None], desk: Desk) -> None:
    """Even the publisher's own key cannot rewrite history: releases are immutable."""
    answer = desk.send(tampered(change)(desk))
    answer.refused(422, "release-refused", saying=REFUSED[change])


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize("change", RACED, ids=lambda change: change.__name__)
def test_metadata_follows_the_current_version(change: Callable[..., None], desk: Desk) -> None:
    desk.send(tampered(change)(desk)).refused(409, "metadata-version", saying="publish again")


@pytest.mark.usefixtures("unmoved")
def test_a_signature_of_another_key_is_refused(desk: Desk) -> None:
    for signer in (desk.server.key("audio").signer, CryptoSigner.generate_ed25519()):
        metadata = desk.next()
        metadata.signatures.clear()
        answer = desk.send(desk.signed(metadata, signer))
        answer.refused(422, "untrusted-metadata", saying="not signed with vision's key")


@pytest.mark.usefixtures("unmoved")
def test_the_servers_own_keys_cannot_sign_a_release(desk: Desk) -> None:
    """A stolen server has no key that devices trust for releases; nor does it accept its own."""
    for name in ("ro-vision", "snapshot", "timestamp"):
        signer = read_key(desk.server.data / "keys" / f"{name}.pem").signer
        metadata = desk.next()
        metadata.signatures.clear()
        desk.send(desk.signed(metadata, signer)).refused(422, "untrusted-metadata")


@pytest.mark.usefixtures("unmoved")
def test_unsigned_and_altered_metadata_is_refused(desk: Desk) -> None:
    unsigned = desk.next()
    unsigned.signatures.clear()
    altered = json.loads(desk.signed(desk.next()))
    altered["signed"]["expires"] = "2099-01-01T00:00:00Z"
    for metadata in (unsigned.to_bytes(), json.dumps(altered).encode()):
        desk.send(metadata).refused(422, "untrusted-metadata")


@pytest.mark.usefixtures("unmoved")
def test_metadata_of_another_type_is_refused(desk: Desk) -> None:
    metadata = Metadata(Snapshot(version=2, expires=desk.server.clock() + timedelta(days=1)))
    desk.send(desk.signed(metadata)).refused(422, "untrusted-metadata", saying="snapshot metadata")


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize(
    "garbage",
    ["", "{", "null", "[]", '"x"', "{}", '{"signed": {}, "signatures": []}', "[" * 100_000, "\x00", "é" * 50],
)
def test_garbage_is_refused(garbage: str, desk: Desk) -> None:
    desk.send(garbage).refused(422)
    call = Caller(desk.server.url, desk.server.tokens["publisher:vision"])
    body = {"manifest": garbage, "metadata": desk.signed(desk.next()).decode()}
    call("POST", "publishers/vision/releases", body).refused(422)


@pytest.mark.usefixtures("unmoved")
def test_half_a_surrogate_pair_is_refused(desk: Desk) -> None:
    """JSON can say it; UTF-8, hence a digest, cannot."""
    call = Caller(desk.server.url, desk.server.tokens["publisher:vision"])
    for body in ({"manifest": "\ud800", "metadata": "x"}, {"manifest": "x", "metadata": "\udfff"}):
        call("POST", "publishers/vision/releases", body).refused(422)


@pytest.mark.usefixtures("unmoved")
def test_oversized_documents_are_refused(desk: Desk) -> None:
    metadata = desk.signed(desk.next())
    desk.send(metadata, manifest=b" " * (512 * 1024 + 1)).refused(422)
    desk.send(" " * (4 * 1024 * 1024 + 1)).refused(422)
    padded = metadata.decode() + "é" * 2_500_000  # fewer characters than the limit, more bytes
    desk.send(padded).refused(422)
    desk.send(" " * (16 * 1024 * 1024)).refused(413, "body-too-large")


def edited(desk: Desk, **changes: Any) -> bytes:
    document = json.loads(desk.manifest)
    document.update(changes)
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize(
    ("changes", "status", "kind", "saying"),
    [
        ({"counter": 5}, 409, "counter", "at least 6"),
        ({"counter": 1, "floor": 0}, 409, "counter", "already has 5"),
        ({"floor": 2}, 409, "counter", "a floor never falls"),
        ({"version": "1.0.0"}, 409, "release-exists", "immutable"),
        ({"publisher": "audio"}, 422, "release-refused", "vision cannot publish it"),
        ({"publisher": "nobody"}, 422, "release-refused", "vision cannot publish it"),
        ({"model": "../digits"}, 422, "release-refused", "model"),
        ({"version": "1"}, 422, "release-refused", "version"),
        ({"format": "ferry.release/99"}, 422, "release-refused", "update Ferry"),
        ({"variants": []}, 422, "release-refused", "variants"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    changes: dict[str, Any], status: int, kind: str, saying: str, desk: Desk
) -> None:
    manifest = edited(desk, **changes)
    path = f"rel/vision/digits/{changes.get('version', '2.0.0')}.json"
    answer = desk.send(desk.signed(desk.next(manifest, path)), manifest)
    answer.refused(status, kind, saying=saying)


@pytest.mark.usefixtures("unmoved")
def test_a_release_whose_blobs_are_missing_is_refused(desk: Desk) -> None:
    document = json.loads(desk.manifest)
    for change in ({"sha256": "0" * 64}, {"length": document["golden"]["file"]["length"] + 1}):
        file = {**document["golden"]["file"], **change}
        manifest = edited(desk, golden={**document["golden"], "file": file})
        answer = desk.send(desk.signed(desk.next(manifest)), manifest)
        answer.refused(422, "release-refused", saying="was not uploaded by vision")


@pytest.mark.usefixtures("unmoved")
def test_another_publishers_token_is_refused(desk: Desk) -> None:
    metadata = desk.signed(desk.next())
    desk.send(metadata, by="audio").refused(403, "forbidden", saying="publishes as audio")
    # Its own path does not take another's package either, whoever signed it.
    desk.send(metadata, publisher="audio", by="audio").refused(422, "release-refused", saying="vision/digits")


@pytest.mark.usefixtures("unmoved")
def test_an_unknown_publisher_is_refused(desk: Desk) -> None:
    services = desk.server.services
    ghost = Principal(name="ghost", role=Role.PUBLISHER, publisher="ghost")
    token = create_token(services.registry, ghost, desk.server.clock)
    call = Caller(desk.server.url, token)
    call("GET", "publishers/ghost/metadata").refused(404, "unknown-publisher", saying="ferry keys delegate")
    path = f"publishers/ghost/blobs/{'0' * 64}?length=1"
    call("GET", path).refused(404, "unknown-publisher")
    call("PATCH", f"{path}&offset=0", raw=b"x").refused(404, "unknown-publisher")
    manifest = edited(desk, publisher="ghost")
    body = {"manifest": manifest.decode(), "metadata": desk.signed(desk.next(manifest)).decode()}
    call("POST", "publishers/ghost/releases", body).refused(404, "unknown-publisher")
    revoke_token(services.registry, "ghost")


@pytest.mark.usefixtures("unmoved")
def test_the_same_release_again_succeeds_and_changes_nothing(desk: Desk) -> None:
    """The answer to the first time may have been lost."""
    folder = next((desk.server.root / "packages").iterdir())
    desk.server.publish_folder(folder)


def test_after_every_refusal_the_honest_release_is_accepted(desk: Desk, tmp_path: Path) -> None:
    answer = desk.send(desk.signed(desk.next()))
    assert answer.status == 201
    assert (answer.json["version"], answer.json["counter"], answer.json["floor"]) == ("2.0.0", 6, 3)
    view = of_url(desk.server.url, desk.server.trust_root, tmp_path)
    assert view.target(PATH) == desk.manifest
    assert view.target(OLD_PATH) is not None
