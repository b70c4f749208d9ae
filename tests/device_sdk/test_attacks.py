"""Attacks on the update path: each is refused with its own error, and nothing moves."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import MetaFile

from device_sdk.errors import (
    ClockError,
    DeviceError,
    DigestMismatchError,
    ExpiredMetadataError,
    ForeignReleaseError,
    NetworkError,
    StoreError,
    UntrustedMetadataError,
    UpdateError,
)
from tests.support.devices import complete, make_device, settle
from tests.support.fleet import TestServer
from tests.support.network import answer, corrupt, endless, run_proxy
from tests.support.scene import Scene
from tests.support.tiny import TinyRelease

pytestmark = pytest.mark.usefixtures("no_self_test")
DIGITS = "vision/digits"


def foreign_key() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "ro-vision", "pub-vision", "targets"])
def test_metadata_signed_with_a_foreign_key_is_refused(scene: Scene, role: str) -> None:
    """Arbitrary install: the attacker has every file, and not this role's key."""
    forged = scene.forge()
    metadata = forged.load(role)
    metadata.signed.version += 1
    metadata.signatures.clear()
    forged.save(role, metadata, foreign_key())
    if role not in ("timestamp", "snapshot"):
        forged.republish(role)
    if role == "snapshot":
        timestamp = forged.load("timestamp")
        timestamp.signed.version += 1
        timestamp.signed.snapshot_meta = MetaFile(metadata.signed.version)
        forged.save("timestamp", timestamp)
    scene.serve(forged)
    if role == "pub-vision":
        # The policy is genuine and is kept; what it names is not.
        scene.is_set_aside(UntrustedMetadataError)
    else:
        before = scene.device.footprint()
        found = scene.poll()
        assert type(found) is UntrustedMetadataError, found
        assert scene.device.footprint().state == before.state
        assert scene.device.predict().release == "1.0.0"


def test_replayed_old_metadata_is_refused(own_scene: Scene) -> None:
    """Rollback: last week's timestamp, snapshot and policy, genuinely signed then."""
    old = own_scene.forge()
    own = own_scene.device
    complete(own_scene.server, "1.1.0")
    complete(own_scene.server, "1.0.0")
    own.poll()
    own_scene.serve(old)
    own_scene.is_refused(UntrustedMetadataError, "timestamp")
    own_scene.recovers()


def test_replay_to_a_device_whose_metadata_files_were_torn_is_refused(own_scene: Scene) -> None:
    """python-tuf compares with its own files; after a power cut they are empty, and the record is not."""
    old = own_scene.forge()
    complete(own_scene.server, "1.1.0")
    complete(own_scene.server, "1.0.0")
    own_scene.device.poll()
    folder = own_scene.device.store / "trust" / "metadata"
    for path in folder.glob("*.json"):
        path.write_bytes(b"")
    own_scene.serve(old)
    own_scene.is_refused(UntrustedMetadataError, "was trusted before")
    # And again, now that the old files lie there as if they were good.
    own_scene.is_refused(UntrustedMetadataError, "was trusted before")
    own_scene.recovers()


def test_a_refused_replay_is_not_what_an_update_goes_on_with(own_scene: Scene) -> None:
    """In one long-lived process, too: refused metadata must not answer the next question for a manifest."""
    old = own_scene.forge()
    complete(own_scene.server, "1.1.0")
    with own_scene.device.agent() as agent:
        agent._trust.refresh(own_scene.device.clock())
        folder = own_scene.device.store / "trust" / "metadata"
        for path in folder.glob("*.json"):
            path.write_bytes(b"")
        own_scene.serve(old)
        agent._trust._client.drop()
        policy = agent._trust.policy(own_scene.device.slots.name)
        assert policy is not None
        ref = policy.rules[0].base
        assert ref is not None
        with pytest.raises(UntrustedMetadataError, match="was trusted before"):
            agent._trust.manifest(own_scene.device.slots.name, ref, own_scene.device.clock())
        assert not agent._trust._client.is_fresh


def test_an_older_policy_under_newer_metadata_is_refused(own_scene: Scene) -> None:
    """Rollback with stolen online keys: versions go up, the revision goes down."""
    complete(own_scene.server, "1.1.0")
    complete(own_scene.server, "1.0.0")
    own_scene.device.poll()
    forged = own_scene.forge()
    forged.change_policy(DIGITS, {"revision": 1})
    own_scene.serve(forged)
    before = own_scene.device.footprint()
    assert type(own_scene.poll()) is UntrustedMetadataError
    assert own_scene.device.footprint().state == before.state
    record = json.loads(own_scene.device.footprint().record)
    assert record["policies"] == json.loads(before.record)["policies"]
    assert record["revisions"] == json.loads(before.record)["revisions"]


def test_a_vanished_policy_is_refused(scene: Scene) -> None:
    forged = scene.forge()
    forged.change_policy(DIGITS, None)
    scene.serve(forged)
    before = scene.device.footprint()
    found = scene.poll()
    assert type(found) is UntrustedMetadataError
    assert "vanished" in str(found)
    assert scene.device.footprint().state == before.state


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "ro-vision"])
def test_frozen_metadata_stops_updates_and_never_inference(scene: Scene, role: str) -> None:
    """Freeze: signed, current, and expired: whoever withholds newer metadata gets no further."""
    forged = scene.forge()
    forged.expire(role, scene.device.clock() - timedelta(minutes=1))
    scene.serve(forged)
    before = scene.device.footprint()
    assert type(scene.poll()) is ExpiredMetadataError
    assert scene.device.footprint().state == before.state
    assert scene.device.predict().release == "1.0.0"


def test_a_304_for_ever_cannot_keep_metadata_alive_past_its_expiry(own_scene: Scene) -> None:
    """Freeze: the attacker answers every question for news with "nothing changed"."""
    own_scene.device.poll()
    own_scene.proxy.misbehave("timestamp.json", answer(304, ETag='"x"'))
    for _ in range(3):
        own_scene.device.clock.advance(hours=20)
        own_scene.poll()
    before = own_scene.device.footprint()
    found = own_scene.poll()
    assert type(found) is NetworkError  # the unconditional question after 24 h has no such answer
    assert own_scene.device.footprint() == before
    own_scene.recovers()


def test_a_snapshot_of_another_time_is_refused(scene: Scene) -> None:
    """Mix-and-match: a new timestamp, and under the snapshot's new name an old one."""
    forged = scene.forge()
    newest = forged.file("snapshot")
    number = int(newest.name.partition(".")[0])
    newest.write_bytes((forged.metadata / f"{number - 1}.snapshot.json").read_bytes())
    scene.serve(forged)
    scene.is_refused(UntrustedMetadataError, "snapshot")


def test_a_policy_file_of_another_time_is_refused(scene: Scene) -> None:
    """Mix-and-match: the snapshot names version N of a role, and an older one lies there."""
    forged = scene.forge()
    newest = forged.file("ro-vision")
    number = int(newest.name.partition(".")[0])
    newest.write_bytes((forged.metadata / f"{number - 1}.ro-vision.json").read_bytes())
    scene.serve(forged)
    before = scene.device.footprint()
    assert type(scene.poll()) is UntrustedMetadataError
    assert scene.device.footprint().state == before.state
    assert scene.device.predict().release == "1.0.0"


@pytest.mark.parametrize("path", [r"timestamp\.json", r"snapshot\.json", r"ro-vision\.json", "2.root.json"])
def test_endless_metadata_is_cut_off(scene: Scene, path: str) -> None:
    scene.proxy.misbehave(path, endless)
    before = scene.device.footprint()
    found = scene.poll()
    assert isinstance(found, NetworkError | UntrustedMetadataError), found
    assert scene.device.footprint().state == before.state
    assert scene.proxy.sent(path) < 64 * 1024 * 1024
    scene.proxy.heal()
    scene.poll()
    assert scene.device.live == "1.1.0"


def test_an_endless_manifest_or_blob_is_cut_off(scene: Scene) -> None:
    for path in ("/targets/rel/", "/blobs/"):
        scene.proxy.misbehave(path, endless)
        found = scene.poll()
        assert type(found) is NetworkError
        assert "bytes expected" in str(found)
        assert scene.device.live == "1.0.0"
        scene.proxy.heal()
    scene.poll()
    assert scene.device.live == "1.1.0"


@pytest.mark.parametrize(
    "path", [r"timestamp\.json", r"snapshot\.json", r"ro-vision\.json", r"pub-vision\.json", "/targets/rel/"]
)
def test_one_tampered_byte_is_refused(own_scene: Scene, path: str) -> None:
    own_scene.server.publish(TinyRelease(version="1.2.0", counter=3))  # so that pub-vision is fetched anew
    complete(own_scene.server, "1.1.0")
    own_scene.proxy.misbehave(path, corrupt(120))
    before = own_scene.device.footprint()
    found = own_scene.poll()
    assert type(found) is UntrustedMetadataError, found
    assert own_scene.device.live == "1.0.0"
    assert own_scene.device.activity()["refused"]["metadata"] >= 1
    if path not in (r"pub-vision\.json", "/targets/rel/"):
        assert own_scene.device.footprint().state == before.state
    own_scene.proxy.heal()
    own_scene.device.clock.advance(hours=7)
    own_scene.poll()
    assert own_scene.device.live == "1.1.0"


def test_a_tampered_blob_is_refused(scene: Scene) -> None:
    scene.proxy.misbehave("/blobs/", corrupt(7))
    scene.is_set_aside(DigestMismatchError, "not the signed ones")


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"\x00\xff", b'{"signed":1,"signatures":[]}', b"9" * 5000]
)
def test_nonsense_instead_of_metadata_is_refused(scene: Scene, body: bytes) -> None:
    scene.proxy.misbehave(r"timestamp\.json", answer(200, body))
    scene.is_refused(UntrustedMetadataError)
    scene.proxy.heal()
    scene.poll()
    assert scene.device.live == "1.1.0"


def break_file(path: Path, how: str) -> None:
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "torn": data[: len(data) // 2], "garbage": b"\xff" * 50}[how])


@pytest.mark.parametrize("how", ["empty", "torn", "garbage"])
@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "ro-vision", "*"])
def test_torn_metadata_files_mend_themselves(scene: Scene, role: str, how: str) -> None:
    folder = scene.device.store / "trust" / "metadata"
    for path in (*folder.glob(f"{role}.json"), *folder.glob(f"root_history/{role}.root.json")):
        break_file(path, how)
    assert scene.poll() is None
    assert scene.device.live == "1.1.0"


@pytest.mark.parametrize("how", ["empty", "torn", "garbage"])
def test_a_damaged_trust_record_fails_closed_and_the_model_runs_on(scene: Scene, how: str) -> None:
    """Without it a rollback could not be told from a first start."""
    break_file(scene.device.store / "trust" / "record.json", how)
    before = scene.device.footprint()
    found = scene.poll()
    assert type(found) is StoreError
    assert "record.json is damaged" in str(found)
    assert scene.device.footprint() == before
    assert scene.device.predict().release == "1.0.0"


def test_a_clock_a_year_back_stops_updates_until_it_is_set_right(scene: Scene) -> None:
    scene.device.clock.now -= timedelta(days=365)
    scene.is_refused(ClockError, "set the clock")
    scene.device.clock.now += timedelta(days=365)
    assert scene.poll() is None
    assert scene.device.live == "1.1.0"


def test_a_clock_a_year_ahead_stops_updates_until_it_is_set_right(scene: Scene) -> None:
    """It finds everything expired; what it believed of the time meanwhile must not stick."""
    scene.device.clock.now += timedelta(days=365)
    scene.is_refused(ExpiredMetadataError, "must sign anew")
    scene.device.clock.now -= timedelta(days=365)
    assert scene.poll() is None
    assert scene.device.live == "1.1.0"


def test_a_rotated_root_is_followed(own_scene: Scene) -> None:
    """Key rotation: the old root key signs who the new keys are; metadata by the new ones is taken."""
    forged = own_scene.forge()
    new_root, new_timestamp = foreign_key(), foreign_key()
    forged.rotate_root(
        new_keys={"root": new_root, "timestamp": new_timestamp}, signers=(forged.signer("root"), new_root)
    )
    timestamp = forged.load("timestamp")
    timestamp.signed.version += 1
    timestamp.signatures.clear()
    forged.save("timestamp", timestamp, new_timestamp)
    own_scene.serve(forged)
    assert own_scene.poll() is None
    assert json.loads(own_scene.device.footprint().record)["versions"]["root"] == 2
    # The stolen old timestamp key is worth nothing from now on.
    stolen = own_scene.forge()
    for path in forged.metadata.glob("*.root.json"):
        (stolen.metadata / path.name).write_bytes(path.read_bytes())
    old = stolen.load("timestamp")
    old.signed.version += 50
    stolen.save("timestamp", old)
    own_scene.serve(stolen)
    own_scene.is_refused(UntrustedMetadataError)


def test_a_lost_root_file_does_not_let_replaced_keys_back_in(own_scene: Scene) -> None:
    """After a rotation and a power cut the attacker hides the new root: the record knows it was there."""
    before_rotation = own_scene.forge()
    forged = own_scene.forge()
    new_root = foreign_key()
    forged.rotate_root(new_keys={"root": new_root}, signers=(forged.signer("root"), new_root))
    timestamp = forged.load("timestamp")
    timestamp.signed.version += 1
    forged.save("timestamp", timestamp)
    own_scene.serve(forged)
    assert own_scene.poll() is None
    folder = own_scene.device.store / "trust" / "metadata"
    for path in (*folder.glob("*.json"), *folder.glob("root_history/*.json")):
        path.unlink()
    later = before_rotation.load("timestamp")
    later.signed.version += 9
    before_rotation.save("timestamp", later)
    own_scene.serve(before_rotation)
    own_scene.is_refused(UntrustedMetadataError, "root is version 1; 2 was trusted before")


@pytest.mark.parametrize("signs", ["foreign alone", "new key alone", "nobody"])
def test_a_foreign_root_is_refused(scene: Scene, signs: str) -> None:
    forged = scene.forge()
    new = foreign_key()
    signers: dict[str, tuple[CryptoSigner, ...]] = {
        "foreign alone": (foreign_key(),),
        "new key alone": (new,),
        "nobody": (),
    }
    forged.rotate_root(new_keys={"root": new}, signers=signers[signs])
    scene.serve(forged)
    scene.is_refused(UntrustedMetadataError)
    scene.recovers()


def test_one_signature_counted_twice_is_not_two(tmp_path: Path, own_server: TestServer) -> None:
    """Duplicate signatures below the threshold: a role that needs two keys cannot be met by one."""
    with run_proxy(own_server.url) as proxy:
        device = make_device(own_server, tmp_path / "device", url=proxy.url)
        settle(device)
        scene = Scene(own_server, proxy, device, tmp_path)
        forged = scene.forge()
        old_root = forged.signer("root")
        second = foreign_key()
        root = forged.load("root")
        root.signed.version += 1
        root.signed.add_key(second.public_key, "timestamp")
        root.signed.roles["timestamp"].threshold = 2
        root.signatures.clear()
        root.sign(old_root)
        (forged.metadata / "2.root.json").write_bytes(root.to_bytes())
        timestamp = forged.load("timestamp")
        timestamp.signed.version += 1
        forged.save("timestamp", timestamp)
        text = json.loads(forged.file("timestamp").read_bytes())
        text["signatures"] *= 2
        forged.file("timestamp").write_bytes(json.dumps(text).encode())
        scene.serve(forged)
        before = device.footprint()
        assert type(scene.poll()) is UntrustedMetadataError
        assert device.footprint().state == before.state
        assert device.predict().release == "1.0.0"


def test_every_refusal_is_an_error_of_ours_that_leaves_the_release() -> None:
    """The tree says it: what `step` swallows and `status` shows."""
    for kind in (UntrustedMetadataError, ExpiredMetadataError, ClockError, ForeignReleaseError):
        assert issubclass(kind, UpdateError)
        assert issubclass(kind, DeviceError)
