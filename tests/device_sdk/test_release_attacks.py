"""Attacks with stolen online keys, or by another publisher: genuine signatures on what must not be run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from device_sdk.errors import ForeignReleaseError, UntrustedMetadataError
from ota_contract.errors import UnknownFormatError
from tests.support.devices import complete
from tests.support.scene import Scene
from tests.support.tiny import TinyRelease

pytestmark = pytest.mark.usefixtures("no_self_test")
DIGITS = "vision/digits"


def test_a_foreign_publishers_release_is_refused(own_scene: Scene) -> None:
    """Stolen online keys: a policy of vision/digits names what only audio has signed."""
    own_scene.server.publish(TinyRelease(version="3.0.0", counter=9, model="audio/digits"))
    forged = own_scene.forge()
    manifest = forged.load("pub-audio").signed.targets["rel/audio/digits/3.0.0.json"]
    rules = [forged.policy(DIGITS)["rules"][0]]
    rules[0]["base"] = {"version": "3.0.0", "counter": 9, "manifest_sha256": manifest.hashes["sha256"]}
    forged.change_policy(DIGITS, {"revision": 50, "rules": rules})
    own_scene.serve(forged)
    own_scene.is_set_aside(UntrustedMetadataError, "not signed by its publisher")


def test_a_publisher_cannot_sign_for_anothers_path(own_scene: Scene) -> None:
    """audio's key signs a target below rel/vision/: the delegation does not lead there."""
    own_scene.server.publish(TinyRelease(version="3.0.0", counter=9, model="audio/digits"))
    forged = own_scene.forge()
    metadata = forged.load("pub-audio")
    target = metadata.signed.targets["rel/audio/digits/3.0.0.json"]
    metadata.signed.targets["rel/vision/digits/3.0.0.json"] = target
    metadata.signed.version += 1
    forged.save("pub-audio", metadata)
    forged.republish("pub-audio")
    rules = [forged.policy(DIGITS)["rules"][0]]
    rules[0]["base"] = {"version": "3.0.0", "counter": 9, "manifest_sha256": target.hashes["sha256"]}
    forged.change_policy(DIGITS, {"revision": 50, "rules": rules})
    own_scene.serve(forged)
    own_scene.is_set_aside(UntrustedMetadataError, "not signed by its publisher")


def test_another_models_policy_is_refused(scene: Scene) -> None:
    forged = scene.forge()
    forged.change_policy(DIGITS, {"model": "faces", "revision": 50})
    scene.serve(forged)
    before = scene.device.footprint()
    found = scene.poll()
    assert type(found) is UntrustedMetadataError
    assert "is one of vision/faces" in str(found)
    assert scene.device.footprint().state == before.state


def test_another_models_release_under_this_models_path_is_refused(own_scene: Scene) -> None:
    """Even the publisher's own key cannot make a device take faces for digits."""
    own_scene.server.publish(TinyRelease(version="3.0.0", counter=9, model="vision/faces"))
    forged = own_scene.forge()
    metadata = forged.load("pub-vision")
    target = metadata.signed.targets["rel/vision/faces/3.0.0.json"]
    metadata.signed.targets["rel/vision/digits/3.0.0.json"] = target
    metadata.signed.version += 1
    forged.save("pub-vision", metadata)
    digest = target.hashes["sha256"]
    genuine = forged.folder / "targets/rel/vision/faces" / f"{digest}.3.0.0.json"
    (forged.folder / "targets/rel/vision/digits" / genuine.name).write_bytes(genuine.read_bytes())
    forged.republish("pub-vision")
    rules = [forged.policy(DIGITS)["rules"][0]]
    rules[0]["base"] = {"version": "3.0.0", "counter": 9, "manifest_sha256": digest}
    forged.change_policy(DIGITS, {"revision": 50, "rules": rules})
    own_scene.serve(forged)
    own_scene.is_set_aside(ForeignReleaseError, "turned out to be vision/faces 3.0.0")


def test_a_policy_that_names_another_manifest_than_is_signed_is_refused(scene: Scene) -> None:
    forged = scene.forge()
    rules = [forged.policy(DIGITS)["rules"][0]]
    rules[0]["base"] = {"version": "1.1.0", "counter": 2, "manifest_sha256": "0" * 64}
    forged.change_policy(DIGITS, {"revision": 50, "rules": rules})
    scene.serve(forged)
    scene.is_set_aside(UntrustedMetadataError, "not the release the policy names")


def test_a_release_below_the_floor_is_refused_for_ever_after(own_scene: Scene) -> None:
    """A stolen server cannot bring back a release the publisher has outlawed."""
    own_scene.server.publish(TinyRelease(version="1.2.0", counter=3, floor=3, seed=2))
    complete(own_scene.server, "1.2.0")
    assert own_scene.poll() is None
    assert own_scene.device.live == "1.2.0"
    forged = own_scene.forge()
    manifest = forged.load("pub-vision").signed.targets["rel/vision/digits/1.1.0.json"]
    rules = [forged.policy(DIGITS)["rules"][0]]
    rules[0]["base"] = {"version": "1.1.0", "counter": 2, "manifest_sha256": manifest.hashes["sha256"]}
    forged.change_policy(DIGITS, {"revision": 50, "rules": rules})
    own_scene.serve(forged)
    found = own_scene.poll()
    assert type(found) is ForeignReleaseError
    assert "below the floor 3" in str(found)
    assert (own_scene.device.live, own_scene.device.update) == ("1.2.0", "failed")
    assert own_scene.device.predict().release == "1.2.0"


def test_a_policy_of_an_unknown_format_means_do_nothing(scene: Scene) -> None:
    forged = scene.forge()
    forged.change_policy(DIGITS, {"format": "ferry.policy/9", "revision": 50})
    scene.serve(forged)
    before = scene.device.footprint()
    found = scene.poll()
    assert type(found) is UnknownFormatError
    assert scene.device.footprint().state == before.state
    record = json.loads(scene.device.footprint().record)
    assert record["policies"] == json.loads(before.record)["policies"]
    assert scene.device.predict().release == "1.0.0"


@pytest.mark.parametrize("raw", [None, [], "x", {"format": "ferry.policy/1"}])
def test_a_malformed_policy_is_refused(scene: Scene, raw: Any) -> None:
    forged = scene.forge()
    forged.change_policy(DIGITS, None, raw=raw if raw is not None else 5)
    scene.serve(forged)
    before = scene.device.footprint()
    found = scene.poll()
    assert isinstance(found, UntrustedMetadataError), found
    assert scene.device.footprint().state == before.state
