"""Fast-forward: with a stolen key the highest number there is was signed; rotating the key undoes it.

And what must never be remembered, because a device could not read it back.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Delegations, MetaFile

from device_sdk.errors import ForeignReleaseError, UntrustedMetadataError
from device_sdk.trust_record import parse_record
from tests.support.attacks import Forger
from tests.support.devices import complete
from tests.support.scene import Scene
from tests.support.tiny import TinyRelease

pytestmark = pytest.mark.usefixtures("no_self_test")
HIGHEST = 2**63 - 1
DIGITS = "vision/digits"


def record(scene: Scene) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(scene.device.footprint().record)
    return values


def move_on(scene: Scene) -> None:
    """The genuine server publishes more often than the attacker did, and ends with 1.1.0."""
    for version in ("1.1.0", "1.0.0", "1.1.0"):
        complete(scene.server, version)


def rotated(scene: Scene, *roles: str) -> tuple[Forger, dict[str, CryptoSigner]]:
    """The genuine repository after a ceremony: the old root key has signed new keys for some roles."""
    ceremony = scene.forge()
    new = {role: CryptoSigner.generate_ed25519() for role in roles}
    ceremony.rotate_root(new_keys=new, signers=(ceremony.signer("root"),))
    for role in ("snapshot", "timestamp"):
        metadata = ceremony.load(role)
        metadata.signed.version += 1
        metadata.signatures.clear()
        if role == "timestamp":
            metadata.signed.snapshot_meta = MetaFile(ceremony.load("snapshot").signed.version)
        ceremony.save(role, metadata, new.get(role))
    return ceremony, new


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_a_fast_forward_is_undone_by_rotating_the_key(own_scene: Scene, role: str) -> None:
    """The device is cut off from the genuine server until root names another key, and no longer."""
    forged = own_scene.forge()
    snapshot, timestamp = forged.load("snapshot"), forged.load("timestamp")
    if role == "snapshot":
        snapshot.signed.version = HIGHEST
        forged.save("snapshot", snapshot)
        timestamp.signed.version += 1
        timestamp.signed.snapshot_meta = MetaFile(HIGHEST)
    else:
        timestamp.signed.version = HIGHEST
    forged.save("timestamp", timestamp)
    own_scene.serve(forged)
    assert own_scene.poll() is None
    assert record(own_scene)["versions"][role] == HIGHEST

    move_on(own_scene)
    own_scene.proxy.heal()
    own_scene.is_refused(UntrustedMetadataError, str(HIGHEST))

    ceremony, new = rotated(own_scene, role)
    own_scene.serve(ceremony)
    own_scene.device.clock.advance(hours=7)
    assert own_scene.poll() is None
    assert own_scene.device.live == "1.1.0"
    assert record(own_scene)["versions"][role] < 1000

    # What the stolen key signs now is nobody's.
    again = forged.load("timestamp")
    own_scene.serve(forged)
    (forged.metadata / "2.root.json").write_bytes((ceremony.metadata / "2.root.json").read_bytes())
    forged.save("timestamp", again)
    before = own_scene.device.footprint()
    assert type(own_scene.poll()) is UntrustedMetadataError
    assert own_scene.device.footprint().state == before.state
    assert new


def test_a_rotation_does_not_let_older_metadata_of_the_new_key_in(own_scene: Scene) -> None:
    """Forgetting happens once, with the root that brings the key, and never again."""
    ceremony, new = rotated(own_scene, "timestamp")
    own_scene.serve(ceremony)
    assert own_scene.poll() is None
    older = ceremony.load("timestamp")
    newer = ceremony.load("timestamp")
    newer.signed.version += 5
    ceremony.save("timestamp", newer, new["timestamp"])
    assert own_scene.poll() is None
    # A power cut empties python-tuf's files, and the attacker replays what the new key signed before.
    for path in (own_scene.device.store / "trust" / "metadata").rglob("*.json"):
        path.write_bytes(b"")
    ceremony.save("timestamp", older, new["timestamp"])
    own_scene.is_refused(UntrustedMetadataError, "was trusted before")


def test_a_lost_root_forgets_nothing(own_scene: Scene) -> None:
    """The files of the new root are gone: the old one's other keys must not look like a rotation."""
    before = own_scene.forge()
    ceremony, _ = rotated(own_scene, "timestamp")
    own_scene.serve(ceremony)
    assert own_scene.poll() is None
    known = record(own_scene)
    for path in (own_scene.device.store / "trust" / "metadata").rglob("*.json"):
        path.unlink()
    own_scene.serve(before)
    own_scene.is_refused(UntrustedMetadataError, "root is version 1; 2 was trusted before")
    assert record(own_scene)["versions"] == known["versions"]
    assert record(own_scene)["keys"] == known["keys"]


def redelegate(forged: Forger, role: str) -> CryptoSigner:
    """The targets role names another key for a delegated role."""
    targets = forged.load("targets")
    delegations = targets.signed.delegations
    assert isinstance(delegations, Delegations)
    new = CryptoSigner.generate_ed25519()
    for keyid in list((delegations.roles or {})[role].keyids):
        targets.signed.revoke_key(keyid, role)
    targets.signed.add_key(new.public_key, role)
    targets.signed.version += 1
    forged.save("targets", targets)
    return new


def resign(forged: Forger, role: str, signer: CryptoSigner) -> None:
    metadata = forged.load(role)
    metadata.signed.version += 1
    metadata.signatures.clear()
    forged.save(role, metadata, signer)


def test_a_revision_run_up_with_a_stolen_rollout_key_is_forgotten_with_the_key(own_scene: Scene) -> None:
    forged = own_scene.forge()
    forged.change_policy(DIGITS, {"revision": HIGHEST})
    own_scene.serve(forged)
    assert own_scene.poll() is None
    assert record(own_scene)["revisions"][DIGITS] == HIGHEST

    move_on(own_scene)
    own_scene.proxy.heal()
    found = own_scene.poll()
    assert type(found) is UntrustedMetadataError
    assert own_scene.device.live == "1.0.0"

    ceremony = own_scene.forge()
    resign(ceremony, "ro-vision", redelegate(ceremony, "ro-vision"))
    ceremony.republish("targets", "ro-vision")
    own_scene.serve(ceremony)
    own_scene.device.clock.advance(hours=7)
    assert own_scene.poll() is None
    assert own_scene.device.live == "1.1.0"
    assert record(own_scene)["revisions"][DIGITS] < 1000


def test_a_floor_run_up_with_a_stolen_publisher_key_is_forgotten_with_the_key(own_scene: Scene) -> None:
    """The floor above every genuine counter would keep the device from its publisher for ever."""
    complete(own_scene.server, "1.1.0")
    wanted = own_scene.forge().policy(DIGITS)["rules"]
    stolen = TinyRelease(version="6.6.6", counter=10**9, floor=10**9)
    own_scene.server.publish(stolen)
    complete(own_scene.server, "6.6.6")
    assert own_scene.poll() is None
    assert (own_scene.device.live, record(own_scene)["floors"]) == ("6.6.6", {DIGITS: 10**9})
    genuine = own_scene.forge()
    genuine.change_policy(DIGITS, {"rules": wanted, "revision": genuine.policy(DIGITS)["revision"] + 1})
    own_scene.serve(genuine)
    assert type(own_scene.poll()) is ForeignReleaseError
    assert own_scene.device.live == "6.6.6"

    ceremony = genuine
    resign(ceremony, "pub-vision", redelegate(ceremony, "pub-vision"))
    ceremony.republish("targets", "pub-vision")
    own_scene.serve(ceremony)
    own_scene.device.clock.advance(hours=7)
    assert own_scene.poll() is None
    assert own_scene.device.live == "1.1.0"


def test_a_revoked_publishers_devices_keep_what_they_run(own_scene: Scene) -> None:
    """The targets role no longer knows the publisher: no policy, no alarm, and no release taken away."""
    ceremony = own_scene.forge()
    targets = ceremony.load("targets")
    delegations = targets.signed.delegations
    assert isinstance(delegations, Delegations)
    assert delegations.roles is not None
    for role in ("pub-vision", "ro-vision"):
        del delegations.roles[role]
    targets.signed.version += 1
    ceremony.save("targets", targets)
    ceremony.republish("targets")
    own_scene.serve(ceremony)
    assert own_scene.poll() is None
    assert record(own_scene)["policies"] == {}
    assert own_scene.device.predict().release == "1.0.0"


@pytest.mark.parametrize("version", [HIGHEST + 1, 10**40])
def test_a_version_the_record_cannot_hold_is_refused(own_scene: Scene, version: int) -> None:
    """Trusted, it would have damaged the record for good."""
    forged = own_scene.forge()
    timestamp = forged.load("timestamp")
    timestamp.signed.version = version
    forged.save("timestamp", timestamp)
    own_scene.serve(forged)
    own_scene.is_refused(UntrustedMetadataError, "beyond")


def test_a_policy_the_record_cannot_hold_is_refused(own_scene: Scene) -> None:
    """Within a policy's bounds, and too deep for the record around it."""
    condition: dict[str, Any] = {"region": "eu"}
    for _ in range(11):
        condition = {"$not": condition}
    forged = own_scene.forge()
    rules = forged.policy(DIGITS)["rules"]
    found = None
    for _ in range(6):
        condition = {"$not": condition}
        forged.change_policy(DIGITS, {"rules": [{**rules[0], "condition": condition}]})
        own_scene.serve(forged)
        before = own_scene.device.footprint()
        found = own_scene.poll()
        parse_record(own_scene.device.footprint().record)
        if found is not None:
            break
    assert type(found) is UntrustedMetadataError
    assert own_scene.device.footprint().state == before.state
    assert own_scene.device.predict().release == "1.0.0"


def test_a_clock_some_days_ahead_leaves_no_trace_once_it_is_right(own_scene: Scene) -> None:
    """Metadata still held good then; what the wrong clock said is not what was trusted."""
    own_scene.device.clock.advance(days=3)
    assert own_scene.poll() is None
    own_scene.device.clock.now -= timedelta(days=3)
    assert own_scene.poll() is None
    complete(own_scene.server, "1.1.0")
    assert own_scene.poll() is None
    assert own_scene.device.live == "1.1.0"


def test_the_time_the_server_signed_is_remembered(own_scene: Scene) -> None:
    signed = own_scene.forge().load("timestamp").signed.unrecognized_fields["issued"]
    own_scene.poll()
    assert record(own_scene)["trusted_time"] == signed
