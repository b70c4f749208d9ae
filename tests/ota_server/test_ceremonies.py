"""Ceremonies: every key can be changed, and devices follow; what is refused moves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import UnsignedMetadataError

from converter.publishing.errors import ForeignMetadataError
from ota_contract.names import parse_model
from ota_server.adapters.ceremonies import Draft
from ota_server.adapters.ceremony_import import import_request
from ota_server.adapters.ceremony_words import describe, in_words
from ota_server.adapters.key_files import generate_key, public_pem, read_private, read_public, write_key
from ota_server.adapters.keys import Threshold, init_keys
from ota_server.adapters.metadata_folder import MetadataFolder
from ota_server.adapters.publication import JOURNAL
from ota_server.adapters.registry import open_registry
from ota_server.adapters.signing_requests import (
    SigningRequest,
    check_lineage,
    dump_request,
    merge_requests,
    parse_request,
    sign_request,
)
from ota_server.errors import (
    CeremonyError,
    MissingSignaturesError,
    StorageError,
    UnknownPublisherError,
    UntrustedMetadataError,
)
from ota_server.operations import publishing, rollouts
from ota_server.operations.reconciler import tick
from ota_server.operations.releases import list_releases
from ota_server.operations.rollouts import Action
from ota_server.settings import no_secrets
from tests.support.ceremonies import Table, ferry
from tests.support.faults import Crash, Faults, disk_full
from tests.support.fleet import Clock
from tests.support.registry import MANAGER, Bench, close, make_bench, principal
from tests.support.rollout_plans import plan
from tests.support.state import fingerprint
from tests.support.tiny import TinyRelease
from tests.support.tuf_view import versions

DIGITS = parse_model("vision/digits")
OLD = TinyRelease()
NEW = TinyRelease(version="1.1.0", counter=2, seed=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bench(tmp_path: Path, clock: Clock) -> Bench:
    return make_bench(tmp_path, "vision", "audio", clock=clock)


@pytest.fixture
def table(bench: Bench) -> Table:
    close(bench.open())
    return Table(bench)


@pytest.fixture
def three(tmp_path: Path, clock: Clock) -> Table:
    """Root 2 of 3, targets 2 of 2."""
    init_keys(
        tmp_path / "keys",
        ["vision"],
        root=Threshold(needed=2, keys=3),
        targets=Threshold(needed=2, keys=2),
        now=clock(),
    )
    return Table(Bench(root=tmp_path, clock=clock))


def follows(table: Table) -> None:
    """A device that was there before and one that is new both follow, and the server goes on signing."""
    before = versions(table.data)
    table.bench.view("warm").refreshed()
    table.bench.view("cold").refreshed()
    shutil.rmtree(table.bench.root / "views" / "cold")
    services = table.bench.open()
    table.bench.clock.advance(days=16)  # type: ignore[attr-defined]
    tick(services)
    close(services)
    after = versions(table.data)
    assert after["timestamp"] == before["timestamp"] + 1
    assert after["ro-vision"] == before["ro-vision"] + 1
    table.bench.view("warm").refreshed()


# Root


def test_a_root_key_is_replaced_by_those_who_remain(three: Table) -> None:
    three.bench.view("warm").refreshed()
    new, public = three.new("root-4")
    three.whole(
        "rotate",
        "root",
        "--in",
        public,
        "--out",
        three.offline("root-1"),
        keys=(three.offline("root-2"), three.offline("root-3")),
    )
    follows(three)
    # The new one counts from now on, and the old one no more.
    request = three.prepare("renew", "root")
    ferry("keys", "sign", request, "--key", three.offline("root-1")).refused("does not count")
    three.bring_in(three.sign(request, new, three.offline("root-2"))).ok()
    follows(three)
    assert MetadataFolder(three.data).root().signed.version == 3


def test_the_threshold_of_root_changes(three: Table) -> None:
    keys = [three.offline(f"root-{number}") for number in (1, 2, 3)]
    three.whole("rotate", "root", "--threshold", 3, keys=tuple(keys))
    request = three.sign(three.prepare("renew", "root"), *keys[:2])
    three.bring_in(request).refused("needs 1 more")
    three.bring_in(three.sign(request, keys[2])).ok()
    follows(three)


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(1, 4))
    gone = draw(st.sets(st.integers(0, count - 1), max_size=count))
    come = draw(st.integers(0 if gone or count > 1 else 1, 3))
    after = count - len(gone) + come
    if after == 0:
        come, after = 1, 1
    keys = list(range(count + come))
    return {
        "before": (draw(st.integers(1, count)), count),
        "gone": gone,
        "come": come,
        "needed": draw(st.integers(1, after)),
        "signers": draw(st.sets(st.sampled_from(keys))),
    }


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(role=st.sampled_from(["root", "targets"]), change=changes())
def test_a_change_is_imported_exactly_when_both_thresholds_are_met(
    role: str, change: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Root by its former and its new keys; targets by root, and its new keys."""
    folder, clock = tmp_path_factory.mktemp("any"), Clock()
    threshold, one = (
        Threshold(needed=change["before"][0], keys=change["before"][1]),
        Threshold(needed=1, keys=1),
    )
    roles = {"root": one, "targets": one, role: threshold}
    init_keys(folder / "keys", ["vision"], now=clock(), root=roles["root"], targets=roles["targets"])
    data = folder / "keys" / "server"
    offline = folder / "keys" / "offline"
    old = [read_private(offline / f"{role}-{number + 1}.pem", no_secrets) for number in range(threshold.keys)]
    new = [generate_key() for _ in range(change["come"])]
    draft = Draft(data, clock())
    try:
        draft.change_keys(
            role,
            add=[signer.public_key for signer in new],
            remove=[old[index].public_key.keyid for index in change["gone"]],
            threshold=change["needed"],
        )
    except CeremonyError:
        assert not change["gone"]
        assert not new
        assert change["needed"] == threshold.needed
        return
    request = draft.finish().request
    signers: list[CryptoSigner] = [(old + new)[index] for index in change["signers"]]
    if role == "targets":
        signers.append(read_private(offline / "root-1.pem", no_secrets))
    for signer in signers:
        try:
            request, _ = sign_request(request, signer)
        except CeremonyError:
            assert role == "targets"  # a former targets key does not sign for the new ones
            assert (old + new).index(signer) in change["gone"]
    remaining = {index for index in range(len(old + new)) if index not in change["gone"]}
    enough = len(change["signers"] & remaining) >= change["needed"]
    if role == "root":
        enough &= len(change["signers"] & set(range(len(old)))) >= threshold.needed
    registry = open_registry(data)
    before = fingerprint(data)
    try:
        if enough:
            done = import_request(request, data, registry=registry, clock=clock, secrets=no_secrets)
            assert done.versions[role] == 2
            Bench(root=folder, clock=clock).view().refreshed()
        else:
            with pytest.raises(MissingSignaturesError):
                import_request(request, data, registry=registry, clock=clock, secrets=no_secrets)
            assert fingerprint(data) == before
    finally:
        registry.close()


def test_signatures_on_copies_are_merged(three: Table) -> None:
    request = three.prepare("renew", "root", "targets")
    copies = []
    for name in ("root-1", "root-3", "targets-1", "targets-2"):
        copies.append(three.bench.root / f"{name}.json")
        shutil.copyfile(request, copies[-1])
        three.sign(copies[-1], three.offline(name))
    three.bring_in(*copies[:3]).refused("targets needs 1 more")
    three.bring_in(*copies).ok()
    follows(three)


def test_copies_of_different_requests_are_not_merged(table: Table) -> None:
    first = table.sign(table.prepare("renew", "root"), table.offline("root-1"))
    second = table.sign(table.prepare("renew", "targets"), table.offline("targets-1"))
    before = fingerprint(table.data)
    table.bring_in(first, second).refused("different requests")
    assert fingerprint(table.data) == before


def test_the_keys_at_hand_do_it_in_one_command(table: Table) -> None:
    _, public = table.new("targets-2")
    arguments = (
        "rotate",
        "targets",
        "--in",
        public,
        "--out",
        table.offline("targets-1"),
        "--data",
        table.data,
    )
    before = fingerprint(table.data)
    ferry("keys", *arguments, "--key", table.offline("root-1")).refused("targets needs 1 more")
    assert fingerprint(table.data) == before
    done = ferry("keys", *arguments, "--key", table.offline("root-1"), "--key", table.new("x")[0])
    done.refused("does not count")
    new = public.with_suffix(".pem")
    ferry("keys", *arguments, "--key", table.offline("root-1"), "--key", new).ok()
    follows(table)


# Online roles


@pytest.mark.parametrize("roles", [("snapshot",), ("timestamp",), ("snapshot", "timestamp", "ro-vision")])
def test_online_keys_are_switched_while_the_server_runs(roles: tuple[str, ...], table: Table) -> None:
    """The server that runs signs with the new key at its next turn, without a restart."""
    services = table.bench.open()
    table.bench.publish(services, OLD)
    draft = rollouts.create(services, MANAGER, plan("1.0.0")).id
    rollouts.act(services, MANAGER, draft, Action.START)
    table.bench.view("warm").refreshed()
    uris = json.loads((table.data / "keys.json").read_text())
    keys = [table.offline("root-1")] if set(roles) & {"snapshot", "timestamp"} else []
    keys += [table.offline("targets-1")] if "ro-vision" in roles else []
    table.whole("rotate", *roles, keys=tuple(keys))
    after = json.loads((table.data / "keys.json").read_text())
    assert {role for role in uris if uris[role] != after[role]} == set(roles)
    for role in roles:
        (table.data / "keys" / f"{role}.pem").unlink()  # nothing needs it
    rollouts.act(services, MANAGER, draft, Action.PAUSE)
    policy = table.bench.view("warm").policy()
    assert policy is not None
    assert policy.rules[0].frozen
    close(services)
    follows(table)


def test_a_key_held_elsewhere_takes_over_by_uri(table: Table) -> None:
    """Through securesystemslib's URIs, as for a key service; the folder holds no private half then."""
    private, public = table.new("held-elsewhere")
    table.whole(
        "rotate", "timestamp", "--uri", f"file2:{private}", "--in", public, keys=(table.offline("root-1"),)
    )
    assert sorted(path.name for path in (table.data / "keys").iterdir()) == [
        *("ro-audio.pem", "ro-vision.pem", "snapshot.pem", "timestamp.pem")
    ]
    follows(table)


@pytest.mark.parametrize(
    "uri", ["file2:keys/nowhere.pem", "file2:keys/snapshot.pem", "gcpkms:x", "made-up:x"]
)
def test_a_uri_that_does_not_sign_is_refused_before_anything_moves(uri: str, table: Table) -> None:
    request = table.prepare("rotate", "timestamp", "--uri", uri, "--in", table.new("held-elsewhere")[1])
    table.sign(request, table.offline("root-1"))
    table.bench.view().refreshed()
    before = fingerprint(table.data)
    table.bring_in(request).refused("the key of timestamp")
    assert fingerprint(table.data) == before


def test_signing_by_uri_takes_the_public_half(table: Table) -> None:
    private, public = table.new("targets-2")
    request = table.prepare("rotate", "targets", "--in", public, "--threshold", 2)
    table.sign(request, table.offline("root-1"), table.offline("targets-1"))
    ferry("keys", "sign", request, "--key", f"file2:{private}").refused("--public")
    ferry("keys", "sign", request, "--key", f"file2:{private}", "--public", public).ok()
    table.bring_in(request).ok()
    follows(table)


# Publishers


def test_after_a_publishers_rotation_its_next_release_is_signed_with_the_new_key(table: Table) -> None:
    services = table.bench.open()
    table.bench.publish(services, OLD)
    table.bench.view("warm").refreshed()
    new, public = table.new("vision-2")
    folder = table.bench.package(NEW)
    table.bench.upload(services, folder)
    signed_with_the_old_key = table.bench.sign(services, folder)
    table.whole("rotate", "pub-vision", "--in", public, keys=(table.offline("targets-1"), new))
    assert table.bench.view("warm").releases("1.0.0") == ["1.0.0"]
    before = fingerprint(table.data)
    with pytest.raises(ForeignMetadataError, match="another key"):
        table.bench.hand_over(services, folder)
    publisher, manifest, metadata = signed_with_the_old_key
    with pytest.raises(UntrustedMetadataError, match="not signed with vision's key"):
        publishing.publish(services, principal(publisher), publisher, manifest=manifest, metadata=metadata)
    assert fingerprint(table.data) == before
    shutil.copyfile(new, table.publisher())
    assert table.bench.hand_over(services, folder).version == "1.1.0"
    assert table.bench.view("warm").releases("1.0.0", "1.1.0") == ["1.0.0", "1.1.0"]
    close(services)
    follows(table)


def test_what_a_thief_published_is_dropped_and_binds_nobody(table: Table) -> None:
    """Its counter and floor, run up to the sky, go with it."""
    services = table.bench.open()
    table.bench.publish(services, OLD)
    table.bench.publish(services, TinyRelease(version="6.6.6", counter=10**9, floor=10**9))
    new, public = table.new("vision-2")
    request = table.prepare("rotate", "pub-vision", "--in", public, "--without", "vision/digits", "6.6.6")
    shown = ferry("keys", "show", request).ok().out
    assert "drops rel/vision/digits/6.6.6.json" in shown
    assert "signs rel/vision/digits/1.0.0.json anew" in shown
    done = table.bring_in(table.sign(request, table.offline("targets-1"), new)).ok()
    assert "forgot vision/digits 6.6.6" in done.out
    assert table.bench.view().releases("1.0.0", "6.6.6") == ["1.0.0"]
    assert [item.version for item in list_releases(services, MANAGER, DIGITS)] == ["1.0.0"]
    shutil.copyfile(new, table.publisher())
    assert table.bench.publish(services, NEW).counter == 2
    rollouts.create(services, MANAGER, plan("1.1.0"))
    close(services)


def test_a_release_that_is_not_there_cannot_be_dropped(table: Table) -> None:
    _, public = table.new("vision-2")
    path = table.bench.root / "never.json"
    arguments = ("rotate", "pub-vision", "--in", public, "--without", "vision/digits", "9.9.9", "-o", path)
    ferry("keys", *arguments, "--data", table.data).refused("has not published vision/digits 9.9.9")
    assert not path.exists()


def test_a_new_publisher_is_let_in(table: Table) -> None:
    table.bench.view("warm").refreshed()
    services = table.bench.open()
    new, public = table.new("radar")
    table.whole("delegate", "radar", "--in", public, keys=(table.offline("targets-1"), new))
    shutil.copyfile(new, table.publisher("radar"))
    table.bench.publish(services, TinyRelease(model="radar/echo"))
    assert table.bench.view("warm").releases("1.0.0", model="radar/echo") == ["1.0.0"]
    draft = rollouts.create(services, MANAGER, plan("1.0.0", model="radar/echo")).id
    rollouts.act(services, MANAGER, draft, Action.START)
    assert table.bench.view("warm").policy("radar/echo") is not None
    close(services)
    follows(table)


def test_a_new_publisher_has_to_prove_its_key(table: Table) -> None:
    """Whoever hands in a public key shows that it has the private half."""
    _, public = table.new("radar")
    request = table.sign(table.prepare("delegate", "radar", "--in", public), table.offline("targets-1"))
    before = fingerprint(table.data)
    table.bring_in(request).refused("pub-radar needs 1 more")
    assert fingerprint(table.data) == before


def test_a_revoked_publisher_signs_no_more_and_nobody_else_notices(table: Table) -> None:
    services = table.bench.open()
    for publisher in ("vision", "audio"):
        table.bench.publish(services, TinyRelease(model=f"{publisher}/digits"))
        draft = rollouts.create(services, MANAGER, plan("1.0.0", model=f"{publisher}/digits")).id
        rollouts.act(services, MANAGER, draft, Action.START)
    view = table.bench.view("warm")
    assert view.policy("audio/digits") is not None
    table.whole("revoke", "audio", keys=(table.offline("targets-1"),))
    assert view.policy("audio/digits") is None
    assert view.releases("1.0.0", model="audio/digits") == []
    assert view.releases("1.0.0") == ["1.0.0"]
    tick(services)  # its rollouts are on record, and hold up nobody
    with pytest.raises(UnknownPublisherError):
        table.bench.publish(services, TinyRelease(model="audio/digits", version="1.1.0", counter=2))
    with pytest.raises(UnknownPublisherError):
        rollouts.act(services, MANAGER, draft, Action.PAUSE)
    assert table.bench.publish(services, NEW).version == "1.1.0"
    assert "ro-audio" not in json.loads((table.data / "keys.json").read_text())
    close(services)
    follows(table)
    _, public = table.new("audio-2")
    path = table.bench.root / "never.json"
    again = ferry("keys", "delegate", "audio", "--in", public, "--data", table.data, "-o", path)
    again.refused("a name is given once")


# Renewal


def test_what_people_sign_is_renewed_and_says_the_same(table: Table, clock: Clock) -> None:
    services = table.bench.open()
    table.bench.publish(services, OLD)
    close(services)
    folder = MetadataFolder(table.data)
    before = {role: folder.targets(role).signed for role in ("targets", "pub-vision")}
    root = folder.root().signed
    clock.advance(days=1)
    keys = (table.offline("root-1"), table.offline("targets-1"), table.publisher())
    table.whole("renew", "root", "targets", "pub-vision", keys=keys)
    for role, signed in {**before, "root": root}.items():
        after = folder.root().signed if role == "root" else folder.targets(role).signed
        assert after.version == signed.version + 1
        after.version, after.expires = signed.version, signed.expires
        assert after == signed
    assert table.bench.view().releases("1.0.0") == ["1.0.0"]
    follows(table)


def test_expired_root_and_targets_are_brought_back_by_renewal(table: Table, clock: Clock) -> None:
    """Too late is not for ever: signatures outlive the expiry of what they sign."""
    draft = Draft(table.data, clock() - timedelta(days=364, hours=23, minutes=59, seconds=59))
    for role in ("root", "targets"):
        draft.renew(role)
    request = draft.finish().request
    for key in ("root-1", "targets-1"):
        request, _ = sign_request(request, read_private(table.offline(key), no_secrets))
    path = table.bench.root / "old.json"
    path.write_bytes(dump_request(request))
    registry = open_registry(table.data)
    import_request(
        request, table.data, registry=registry, clock=lambda: clock() - timedelta(days=10), secrets=no_secrets
    )
    registry.close()
    table.whole("renew", "root", "targets", keys=(table.offline("root-1"), table.offline("targets-1")))
    follows(table)


# Refusals


def test_importing_again_changes_nothing(table: Table) -> None:
    request = table.sign(table.prepare("rotate", "timestamp"), table.offline("root-1"))
    table.bring_in(request).ok()
    before = fingerprint(table.data)
    assert "imported before" in table.bring_in(request).ok().out
    services = table.bench.open()
    table.bench.publish(services, OLD)
    close(services)
    assert "imported before" in table.bring_in(request).ok().out
    assert fingerprint(table.data) != before


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        (("rotate", "pub-vision", "--in", "PUBLIC"), "pub-vision"),
        (("revoke", "audio"), "targets"),
        (("renew", "root"), "root"),
    ],
)
def test_a_request_is_stale_once_something_else_was_published(
    change: tuple[str, ...], stale: str, table: Table
) -> None:
    new, public = table.new("vision-2")
    services = table.bench.open()
    request = table.prepare(*(str(public) if part == "PUBLIC" else part for part in change))
    keys = {
        "pub-vision": (table.offline("targets-1"), new),
        "targets": (table.offline("targets-1"),),
        "root": (table.offline("root-1"),),
    }
    table.sign(request, *keys[stale])
    if stale == "pub-vision":
        table.bench.publish(services, OLD)
    else:
        table.whole("rotate", "timestamp" if stale == "root" else "ro-vision", keys=keys[stale])
    close(services)
    before = fingerprint(table.data)
    table.bring_in(request).refused(f"{stale} changed since the request was prepared")
    assert fingerprint(table.data) == before


def test_a_request_of_another_repository_is_stale_here(table: Table, tmp_path: Path) -> None:
    other = Table(make_bench(tmp_path / "other", "vision", "audio"))
    request = other.sign(other.prepare("renew", "root"), other.offline("root-1"))
    table.bench.view().refreshed()
    before = fingerprint(table.data)
    table.bring_in(request).refused("root")
    assert fingerprint(table.data) == before


def edited(path: Path, edit: Any) -> Path:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))
    return path


def test_a_request_changed_after_signing_is_refused(table: Table) -> None:
    request = table.sign(table.prepare("renew", "root"), table.offline("root-1"))

    def longer(document: Any) -> None:
        document["next"]["root"]["signed"]["expires"] = "2099-01-01T00:00:00Z"

    before = fingerprint(table.data)
    table.bring_in(edited(request, longer)).refused("root needs 1 more")
    assert fingerprint(table.data) == before


def test_a_forged_past_does_not_lower_a_threshold(three: Table) -> None:
    """What the request says is published is compared with what is."""

    def lower(document: Any) -> None:
        for root in (document["roots"][0], document["next"]["root"]):
            root["signed"]["roles"]["root"]["threshold"] = 1

    request = edited(three.prepare("renew", "root"), lower)
    ferry("keys", "sign", request, "--key", three.offline("root-1")).refused("never signed")
    raw = parse_request(request.read_bytes())
    signed, _ = sign_request(raw, read_private(three.offline("root-1"), no_secrets))
    request.write_bytes(dump_request(signed))
    before = fingerprint(three.data)
    three.bring_in(request).refused("changed since")
    assert fingerprint(three.data) == before


def adds_a_release(document: Any) -> None:
    document["next"]["pub-vision"]["signed"]["targets"]["rel/vision/digits/6.6.6.json"] = {
        "length": 1,
        "hashes": {"sha256": "0" * 64},
    }


def delegates_further(document: Any) -> None:
    document["next"]["pub-vision"]["signed"]["delegations"] = {"keys": {}, "roles": []}


def goes_on_past_a_publisher(document: Any) -> None:
    document["next"]["targets"]["signed"]["delegations"]["roles"][0]["terminating"] = False


def lets_a_publisher_sign_for_others(document: Any) -> None:
    document["next"]["targets"]["signed"]["delegations"]["roles"][0]["paths"] = ["rel/*/*/*.json"]


def makes_a_role_of_another_name(document: Any) -> None:
    document["next"]["targets"]["signed"]["delegations"]["roles"][0]["name"] = "everything"


def names_a_file_itself(document: Any) -> None:
    document["next"]["targets"]["signed"]["targets"]["rel/vision/digits/6.6.6.json"] = {
        "length": 1,
        "hashes": {"sha256": "0" * 64},
    }


def has_expired(document: Any) -> None:
    document["next"]["targets"]["signed"]["expires"] = "2020-01-01T00:00:00Z"


def skips_a_version(document: Any) -> None:
    document["next"]["targets"]["signed"]["version"] += 1


def brings_a_key_of_a_stranger(document: Any) -> None:
    document["online"]["../../somewhere"] = "file2:x"


@pytest.mark.parametrize(
    ("mistake", "saying"),
    [
        (adds_a_release, "published, not imported"),
        (delegates_further, "delegates, which a publisher cannot"),
        (goes_on_past_a_publisher, "terminating"),
        (lets_a_publisher_sign_for_others, "below its own paths"),
        (makes_a_role_of_another_name, "there are no others"),
        (names_a_file_itself, "names no file itself"),
        (has_expired, "expired on 2020-01-01"),
        (skips_a_version, "does not follow"),
        (brings_a_key_of_a_stranger, "not a role this request can change"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_even_with_every_signature_a_mistake_is_not_published(
    mistake: Any, saying: str, table: Table
) -> None:
    new, public = table.new("vision-2")
    request = edited(table.prepare("rotate", "pub-vision", "--in", public), mistake)
    signed = parse_request(request.read_bytes())
    for key in (table.offline("targets-1"), new):
        try:
            signed, _ = sign_request(signed, read_private(key, no_secrets))
        except CeremonyError:
            assert mistake is makes_a_role_of_another_name
    request.write_bytes(dump_request(signed))
    table.bench.view().refreshed()
    before = fingerprint(table.data)
    table.bring_in(request).refused(saying)
    assert fingerprint(table.data) == before


def test_a_root_without_consistent_snapshots_is_refused(table: Table) -> None:
    def mistake(document: Any) -> None:
        document["next"]["root"]["signed"]["consistent_snapshot"] = False

    request = table.sign(edited(table.prepare("renew", "root"), mistake), table.offline("root-1"))
    before = fingerprint(table.data)
    table.bring_in(request).refused("consistent snapshots")
    assert fingerprint(table.data) == before


def test_a_result_that_devices_would_refuse_is_not_published(table: Table) -> None:
    """A root that names a snapshot key nobody gave the server: its signature would be worth nothing."""

    def mistake(document: Any) -> None:
        document["online"] = {}

    request = table.sign(edited(table.prepare("rotate", "snapshot"), mistake), table.offline("root-1"))
    before = fingerprint(table.data)
    table.bring_in(request).refused("holds another key")
    assert fingerprint(table.data) == before


@pytest.mark.parametrize(
    ("arguments", "saying"),
    [
        (("rotate", "root"), "nothing changes"),
        (("rotate", "root", "--threshold", "2"), "of which 2 have to sign"),
        (("rotate", "root", "--out", "{root}"), "0 keys"),
        (("rotate", "root", "--out", "12345678"), "names no key of root"),
        (("rotate", "root", "--in", "{timestamp}"), "not a PEM public key"),
        (("rotate", "targets", "--in", "{root_pub}"), "in use already"),
        (("rotate", "root", "targets", "--threshold", "1"), "give one of root, targets"),
        (("rotate", "everything"), "give one of root, targets"),
        (("rotate", "ro-nobody"), "nobody"),
        (("rotate", "pub-nobody", "--in", "{new}"), "no publisher 'nobody'"),
        (("rotate", "pub-vision"), "has one key"),
        (("rotate", "pub-vision", "--in", "{new}", "--threshold", "1"), "--threshold does not go with"),
        (("rotate", "timestamp", "--uri", "file2:x"), "both"),
        (("rotate", "timestamp", "--in", "{new}"), "both"),
        (("rotate", "timestamp", "snapshot", "--uri", "file2:x", "--in", "{new}"), "one role at a time"),
        (("delegate", "vision", "--in", "{new}"), "a name is given once"),
        (("delegate", "Vision", "--in", "{new}"), "publisher 'Vision'"),
        (("revoke", "nobody"), "no publisher 'nobody'"),
        (("renew", "timestamp"), "signed by the server"),
        (("renew", "pub-nobody"), "no publisher 'nobody'"),
    ],
)
def test_a_change_that_makes_no_sense_writes_nothing(
    arguments: tuple[str, ...], saying: str, table: Table
) -> None:

    _, new = table.new("new")
    root_pub = table.bench.root / "root-1.pub"
    root_pub.write_bytes(public_pem(read_private(table.offline("root-1"), no_secrets)))
    names = {
        "root": table.offline("root-1"),
        "root_pub": root_pub,
        "timestamp": table.data / "keys" / "timestamp.pem",
        "new": new,
    }
    path = table.bench.root / "never.json"
    close(table.bench.open())
    before = fingerprint(table.data)
    filled = [argument.format(**names) for argument in arguments]
    ferry("keys", *filled, "--data", table.data, "-o", path).refused(saying)
    assert fingerprint(table.data) == before
    assert not path.exists()


def test_a_request_is_never_overwritten_and_needs_a_place(table: Table) -> None:
    path = table.prepare("renew", "root")
    before = path.read_bytes()
    ferry("keys", "renew", "targets", "--data", table.data, "-o", path).refused("exists")
    assert path.read_bytes() == before
    ferry("keys", "renew", "targets", "--data", table.data).refused("give -o")


def test_a_key_that_does_not_count_leaves_the_file_as_it_was(table: Table) -> None:
    request = table.prepare("renew", "root")
    before = request.read_bytes()
    ferry("keys", "sign", request, "--key", table.offline("targets-1")).refused("does not count")
    assert request.read_bytes() == before


def test_a_trusted_root_tells_a_foreign_request(table: Table, tmp_path: Path) -> None:
    """Offline, the root that devices were delivered with says whose repository this is."""
    ours = tmp_path / "keys" / "root.json"
    table.whole("renew", "root", keys=(table.offline("root-1"),))
    request = table.prepare("renew", "root")
    ferry("keys", "sign", request, "--key", table.offline("root-1"), "--trusted-root", ours).ok()
    make_bench(tmp_path / "other", "vision", "audio")
    foreign = tmp_path / "other" / "keys" / "root.json"
    before = request.read_bytes()
    ferry("keys", "sign", request, "--key", table.offline("root-1"), "--trusted-root", foreign).refused(
        "not from your repository"
    )
    assert request.read_bytes() == before


def test_a_request_says_in_words_what_is_signed(three: Table) -> None:
    _, public = three.new("root-4")
    request = three.prepare(
        "rotate", "root", "--in", public, "--threshold", 3, "--out", three.offline("root-1")
    )
    gone = read_private(three.offline("root-1"), no_secrets).public_key.keyid[:8]
    words = ferry("keys", "show", request).ok().out
    assert "root 1 → 2, good until" in words
    assert f"root: 2 of 3 → 3 of 3, out {gone}" in words
    assert "3 of the new root keys" in words
    document = ferry("keys", "sign", request, "--key", three.offline("root-2"), "--json").ok().json
    assert document["signed"] == ["root"]
    assert [need["missing"] for need in document["needs"]] == [1, 2]
    assert document["complete"] is False


def escapes(document: Any) -> None:
    """What a terminal would obey: erase the line above, and write from right to left."""
    signed = document["next"]["pub-vision"]["signed"]
    signed["targets"]["rel/\x1b[1A\x1b[2K\u202evision"] = {"length": 1, "hashes": {"sha256": "0" * 64}}


def test_a_request_cannot_command_the_terminal_that_shows_it(table: Table) -> None:
    request = edited(table.prepare("rotate", "pub-vision", "--in", table.new("vision-2")[1]), escapes)
    words = ferry("keys", "show", request).ok().out
    assert "CHANGES OR ADDS rel/" in words
    assert all(letter.isprintable() or letter == "\n" for letter in words)
    said = table.bring_in(request).refused("published, not imported")
    assert said.err.removesuffix("\n").isprintable()


@pytest.mark.parametrize(("answer", "signs"), [("y", True), ("n", False), ("", False)])
def test_at_a_terminal_whoever_signs_is_asked(answer: str, signs: bool, table: Table) -> None:  # noqa: FBT001
    request = table.prepare("renew", "root")
    before = request.read_bytes()
    master, slave = pty.openpty()
    sign = ["keys", "sign", str(request), "--key", str(table.offline("root-1"))]
    command = [sys.executable, "-m", "ferry_cli", *sign]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        shown = b""
        while b"sign this? [y/N] " not in shown:
            shown += os.read(master, 4096)
        assert b"root 1 \xe2\x86\x92 2" in shown
        assert request.read_bytes() == before
        os.write(master, f"{answer}\n".encode())
        with contextlib.suppress(OSError):  # the terminal is closed
            while os.read(master, 4096):
                pass
        assert process.wait(60) == (0 if signs else 1)
    os.close(master)
    assert (request.read_bytes() != before) is signs


# Parsing


def test_what_is_written_is_read_again(table: Table) -> None:
    path = table.prepare("rotate", "pub-vision", "--in", table.new("vision-2")[1])
    request = parse_request(path.read_bytes())
    assert dump_request(request) == path.read_bytes()
    assert merge_requests([request, request]) == request


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    table = Table(make_bench(tmp_path_factory.mktemp("sample")))
    request = table.prepare("rotate", "pub-vision", "--in", table.new("vision-2")[1])
    return table.sign(request, table.offline("targets-1")).read_bytes()


@st.composite
def mutations(draw: st.DrawFn) -> list[tuple[float, Any]]:
    value = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.text(max_size=8),
        st.just([]),
        st.just({}),
        st.floats(0, 1),
    )
    return draw(st.lists(st.tuples(st.floats(0, 0.999), value), min_size=1, max_size=3))


def places(value: Any) -> list[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in [(value, key), *places(item)]]


@settings(max_examples=300)
@given(mutation=mutations())
def test_a_damaged_request_is_a_refusal_and_nothing_else(
    mutation: list[tuple[float, Any]], sample: bytes
) -> None:

    document = json.loads(sample)
    for where, value in mutation:
        known = places(document)
        holder, key = known[int(where * len(known))]
        holder[key] = value
    try:
        request = parse_request(json.dumps(document).encode())
        check_lineage(request)
        describe(request)
        in_words(request)
        sign_request(request, generate_key())
    except CeremonyError:
        pass


@given(st.binary(max_size=200))
def test_noise_is_no_request(noise: bytes) -> None:
    with pytest.raises(CeremonyError):
        parse_request(noise)


# Faults


def rotation(table: Table) -> SigningRequest:
    """A request that changes root, targets and every online key at once."""
    draft = Draft(table.data, table.bench.clock())
    _, public = table.new("targets-2")

    draft.change_keys("targets", add=[read_public(public)], remove=[], threshold=None)
    for role in ("snapshot", "timestamp", "ro-vision"):
        draft.switch_online(role)
    prepared = draft.finish()
    for file, signer in prepared.new_keys.items():
        write_key(table.data / file, signer, None)
    request = prepared.request
    for key in ("root-1", "targets-1"):
        request, _ = sign_request(request, read_private(table.offline(key), no_secrets))
    return request


def brought_in(table: Table, request: SigningRequest) -> None:
    registry = open_registry(table.data)
    try:
        import_request(request, table.data, registry=registry, clock=table.bench.clock, secrets=no_secrets)
    finally:
        registry.close()


def is_in(table: Table) -> bool:
    return len(list((table.data / "repository" / "metadata").glob("2.root.json"))) == 1


@pytest.mark.parametrize(("failure", "stride"), [(Crash, 1), (disk_full, 3)])
def test_whatever_ends_an_import_a_server_that_starts_can_sign(
    failure: Any, stride: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step in turn: afterwards it is as if the request had not been imported, or had been, whole."""
    bench = make_bench(tmp_path / "first")
    table = Table(bench)
    services = bench.open()
    bench.publish(services, OLD)
    close(services)
    request = rotation(table)
    bench.view("warm").refreshed()
    faults = Faults(monkeypatch)
    step, outcomes, expected = 0, [], StorageError if failure is disk_full else Crash
    while True:
        copy = Bench(root=tmp_path / f"copy-{step}", clock=bench.clock)
        shutil.copytree(bench.root, copy.root)
        there = Table(copy)
        try:
            with faults.at(step, failure):
                brought_in(there, request)
        except expected:
            pass
        else:
            break
        pending = (copy.data / JOURNAL).exists()
        before = versions(copy.data)
        services = copy.open()  # what a start does
        assert not (copy.data / JOURNAL).exists()
        assert is_in(there) or not pending
        assert copy.view("warm").releases("1.0.0") == ["1.0.0"]
        copy.publish(services, NEW)
        assert copy.view("warm").releases("1.1.0") == ["1.1.0"]
        close(services)
        assert versions(copy.data)["timestamp"] > before["timestamp"]
        outcomes.append(is_in(there))
        shutil.rmtree(copy.root)
        step += stride
    assert outcomes == sorted(outcomes)
    assert {True, False} == set(outcomes)


def test_a_server_that_runs_completes_what_an_import_left(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk was full for a moment behind the new root: the next turn of the server goes on from there."""
    services = table.bench.open()
    request = rotation(table)
    table.bench.view("warm").refreshed()
    faults = Faults(monkeypatch)
    step = 0
    while not is_in(table):
        with faults.at(step, disk_full), pytest.raises(StorageError):
            brought_in(table, request)
        step += 1
    with pytest.raises(UnsignedMetadataError):
        table.bench.view("between").refreshed()  # the new root, and a timestamp of the old key
    tick(services)
    table.bench.view("warm").refreshed()
    assert not (table.data / JOURNAL).exists()
    brought_in(table, request)  # imported before
    close(services)
    follows(table)


def test_a_release_published_at_once_with_a_key_that_goes_is_refused_or_was_first(table: Table) -> None:
    """Importing and publishing take turns: what was signed with the old key does not come behind the new."""
    services = table.bench.open()
    folder = table.bench.package(OLD)
    table.bench.upload(services, folder)
    publisher, manifest, metadata = table.bench.sign(services, folder)
    new, public = table.new("vision-2")
    request = table.sign(
        table.prepare("rotate", "pub-vision", "--in", public), table.offline("targets-1"), new
    )
    publishing.publish(services, principal(publisher), publisher, manifest=manifest, metadata=metadata)
    table.bring_in(request).refused("pub-vision changed since")
    assert table.bench.view().releases("1.0.0") == ["1.0.0"]
    close(services)
