"""docs/operations/keys.md, typed as it stands: every ceremony, and a drill for each key that may be stolen.

Each drill has a real server process, a real device, and an attacker on the device's link who holds the
stolen key and no other: what he can do before, what is left of it after.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Key, Metadata, MetaFile, TargetFile, Targets
from tuf.api.serialization.json import JSONSerializer

from device_sdk.errors import UntrustedMetadataError
from ota_contract.names import parse_model, release_target
from ota_server.adapters.key_files import read_private
from ota_server.adapters.keys import Threshold, init_keys
from ota_server.adapters.registry import open_registry
from ota_server.domain.access import Principal, Role
from ota_server.operations.access import create_token
from ota_server.settings import no_secrets
from tests.support.attacks import Forger
from tests.support.devices import AT_ONCE, Device, make_device, settle
from tests.support.fleet import Clock, TestServer
from tests.support.network import Proxy, run_proxy
from tests.support.tiny import TinyRelease, write_package
from tests.support.tuf_view import versions

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operations" / "keys.md").read_text(encoding="utf-8")
CEREMONIES, _, DRILLS = PAGE.partition("## When a key is stolen")
HIGHEST = 2**63 - 1
DIGITS = parse_model("vision/digits")
WATCH_S = 60.0


def commands(text: str) -> list[str]:
    """The shell blocks of a part of the page."""
    return re.findall(r"(?ms)^```sh\n(.*?)^```$", text)


def drill(name: str) -> list[str]:
    """The shell blocks of one drill."""
    (section,) = re.findall(rf"(?ms)^### Drill: {name}\n(.*?)(?=^### |\Z)", DRILLS)
    return commands(section)


def typed(script: str, folder: Path, **environment: str) -> str:
    """Run a block as somebody who copies and pastes it; it must succeed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "FERRY_CONFIG": str(folder / "credentials.json"),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_every_ceremony_works_as_typed(tmp_path: Path) -> None:
    """From the first one to the last, on one folder, as the page tells them."""
    blocks = commands(CEREMONIES)
    assert len(blocks) == 12
    output = "".join(typed(block, tmp_path) for block in blocks)
    for expected in (
        "root: 2 of 3 → 2 of 3, out ",
        "published root 2",
        "published root 3",
        "pub-audio: is new, in ",
        "Not encrypted",
        "Encrypted with the passphrase.",
    ):
        assert expected in output
    now = versions(tmp_path / "keys" / "server")
    assert now["targets"] == 7
    status = typed("ferry keys status --data keys/server --json", tmp_path)
    rows = {row["role"]: row for row in json.loads(status)}
    assert rows["root"]["version"] == 6
    assert not any("audio" in role for role in rows)
    assert not any(row["warning"] for row in rows.values())


def test_every_role_has_a_drill() -> None:
    assert re.findall(r"(?m)^### Drill: (.*)$", DRILLS) == [
        "one root key",
        "a quorum of the root keys",
        "the targets key",
        "a publisher's key",
        "a rollout key",
        "the snapshot key",
        "the timestamp key",
        "the server with all its online keys",
    ]


# The stage


@dataclass(slots=True)
class Stage:
    """A server process, a device behind the attacker's proxy, and the attacker."""

    folder: Path
    server: TestServer
    proxy: Proxy
    device: Device
    forgeries: int = 0

    def type(self, name: str, *, blocks: slice = slice(None), **environment: str) -> str:
        """Type the commands of a drill."""
        return "".join(
            typed(block, self.folder, FERRY_SERVER=self.server.url, **environment)
            for block in drill(name)[blocks]
        )

    def forge(self) -> Forger:
        """A copy of what is published, for the attacker to change."""
        self.forgeries += 1
        return Forger(self.server, self.folder / f"forged-{self.forgeries}")

    def meet(self, forged: Forger | None, device: Device | None = None) -> Exception | None:
        """Let a device poll the attacker (or the genuine server); returns what went wrong."""
        self.proxy.folder = None if forged is None else forged.folder
        device = device or self.device
        device.clock.advance(hours=2)
        caught: list[Exception] = []
        with device.agent() as agent:
            genuine = agent._note_failure

            def note(error: Exception) -> None:
                caught.append(error)
                genuine(error)

            agent._note_failure = note  # type: ignore[method-assign]
            agent.poll()
        return caught[0] if caught else None

    def new_device(self) -> Device:
        """One that has seen nothing yet, delivered with the first root."""
        name = f"new-{self.forgeries}-{len(list(self.folder.glob('new-*')))}"
        return make_device(self.server, self.folder / name, name, url=self.proxy.url)

    def refuses(self, forged: Forger, device: Device | None = None, *, tries: bool = False) -> None:
        """The device takes nothing of it: exactly this error, and nothing durable moves.

        Where the policy can be believed and the release cannot, it `tries`, and records that it failed.
        """
        device = device or self.device
        before = device.footprint()
        found = self.meet(forged, device)
        assert type(found) is UntrustedMetadataError, found
        after = device.footprint()
        assert after.live == before.live
        if tries:
            assert (device.update, device.state.candidate) == ("failed", None)
        else:
            assert after.state == before.state

    def complete(self, version: str) -> None:
        """Make a version what everyone is on; the server's reconciler does the work."""
        rollout = self.server.roll_out(version, stages=AT_ONCE)
        deadline = time.monotonic() + WATCH_S
        while self.server.client().get("rollouts", rollout)["state"] != "completed":
            assert time.monotonic() < deadline, "the rollout does not complete"

    def follows(self, version: str = "1.1.0", device: Device | None = None) -> None:
        """A genuine update goes through."""
        device = device or self.device
        self.complete(version)
        device.clock.advance(hours=7)
        found = self.meet(None, device)
        assert found is None, found
        assert device.live == version


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "ferry_cli", "serve", "--data", "keys/server", "--port", "0"]
    with subprocess.Popen(
        [*command, "--tick", "0.1", "--poll-interval", "1", "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read()
            yield json.loads(line)["url"]
        finally:
            process.kill()


def stage(folder: Path, url: str, proxy: Proxy, tokens: dict[str, str]) -> Stage:
    """Without services or traffic: the server is a process of its own."""
    server = TestServer(
        root=folder,
        url=url,
        clock=Clock(now=datetime.now(UTC)),
        services=None,  # type: ignore[arg-type]
        counted=None,  # type: ignore[arg-type]
        stop=lambda: None,
        tokens=tokens,
    )
    device = Device(
        folder=folder / "device",
        config_path=folder / "device" / "device.toml",
        clock=Clock(now=datetime.now(UTC)),
    )
    return Stage(folder=folder, server=server, proxy=proxy, device=device)


def issue(data: Path) -> dict[str, str]:
    registry = open_registry(data)
    publisher = Principal(name="ci", role=Role.PUBLISHER, publisher="vision")
    try:
        tokens = {"publisher:vision": create_token(registry, publisher, lambda: datetime.now(UTC))}
        for role in (Role.FLEET_MANAGER, Role.ENROLMENT):
            principal = Principal(name=role.value, role=role)
            tokens[role.value] = create_token(registry, principal, lambda: datetime.now(UTC))
    finally:
        registry.close()
    return tokens


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """1.0.0 is what everyone is on, 1.1.0 is published, a device is healthy on 1.0.0."""
    folder = tmp_path_factory.mktemp("template") / "stage"
    folder.mkdir()
    init_keys(
        folder / "keys",
        ["vision"],
        root=Threshold(needed=2, keys=3),
        targets=Threshold(needed=1, keys=1),
        now=datetime.now(UTC),
    )
    tokens = issue(folder / "keys" / "server")
    with serving(folder) as url, run_proxy(url) as proxy:
        scene = stage(folder, url, proxy, tokens)
        scene.server.publish(TinyRelease())
        scene.server.publish(TinyRelease(version="1.1.0", counter=2, seed=1))
        scene.complete("1.0.0")
        make_device(scene.server, folder / "device", url=proxy.url)
        settle(scene.device)
        assert (scene.device.live, scene.device.update) == ("1.0.0", "healthy")
        config = scene.device.config_path
        config.write_text(config.read_text().replace(proxy.url, "PROXY").replace(str(folder), "FOLDER"))
    return folder, tokens


@pytest.fixture
def scene(template: tuple[Path, dict[str, str]], tmp_path: Path) -> Iterator[Stage]:
    folder = tmp_path / "stage"
    shutil.copytree(template[0], folder, symlinks=True)
    with serving(folder) as url, run_proxy(url) as proxy:
        found = stage(folder, url, proxy, template[1])
        config = found.device.config_path
        config.write_text(config.read_text().replace("PROXY", proxy.url).replace("FOLDER", str(folder)))
        yield found


# The attacker


def write(forged: Forger, role: str, metadata: Metadata[Any], *signers: CryptoSigner) -> None:
    """Under its own version, signed with these keys alone."""
    metadata.signatures.clear()
    for signer in signers:
        metadata.sign(signer, append=True)
    name = "timestamp.json" if role == "timestamp" else f"{metadata.signed.version}.{role}.json"
    (forged.metadata / name).write_bytes(metadata.to_bytes(JSONSerializer(compact=True)))


def rogue(forged: Forger, folder: Path, signer: CryptoSigner, *, bump: bool = False) -> dict[str, Any]:
    """A release 6.6.6 nobody made, signed as the publisher; returns how a policy names it."""
    package = folder / f"rogue-{len(list(folder.glob('rogue-*')))}"
    release = write_package(package, TinyRelease(version="6.6.6", counter=666, label="rogue"))
    manifest = (package / "release.json").read_bytes()
    path = release_target(release.name, release.version)
    target = TargetFile.from_data(path, manifest, ["sha256"])
    (sha256,) = target.hashes.values()
    file = forged.folder / "targets" / path
    file.with_name(f"{sha256}.{file.name}").write_bytes(manifest)
    metadata = forged.load("pub-vision")
    metadata.signed.targets[path] = target
    metadata.signed.version += bump
    write(forged, "pub-vision", metadata, signer)
    return {"version": "6.6.6", "counter": 666, "manifest_sha256": sha256}


def ref(forged: Forger, version: str) -> dict[str, Any]:
    """How a policy names a genuine release."""
    path = release_target(DIGITS, version)
    target = forged.load("pub-vision").signed.targets[path]
    counter = {"1.0.0": 1, "1.1.0": 2}[version]
    return {"version": version, "counter": counter, "manifest_sha256": target.hashes["sha256"]}


def decide(
    forged: Forger, signer: CryptoSigner, release: dict[str, Any], *, version: int | None = None
) -> None:
    """A policy by which everyone runs a release, signed as the server."""
    metadata = forged.load("ro-vision")
    path = "rollout/vision/digits"
    custom = dict(metadata.signed.targets[path].custom or {})
    custom["rules"] = [{**custom["rules"][0], "base": release}]
    custom["revision"] += 1
    metadata.signed.targets[path].unrecognized_fields["custom"] = custom
    metadata.signed.version = version or metadata.signed.version
    write(forged, "ro-vision", metadata, signer)


def name_all(forged: Forger, snapshot: CryptoSigner, timestamp: CryptoSigner) -> None:
    """The next snapshot and timestamp, naming the newest file of each role."""
    names = forged.load("snapshot")
    for file in names.signed.meta:
        names.signed.meta[file] = MetaFile(forged.load(file.removesuffix(".json")).signed.version)
    names.signed.version += 1
    write(forged, "snapshot", names, snapshot)
    now = forged.load("timestamp")
    now.signed.version += 1
    now.signed.snapshot_meta = MetaFile(names.signed.version)
    write(forged, "timestamp", now, timestamp)


def delegate_to(targets: Targets, role: str, key: Key) -> None:
    for keyid in list(targets.get_delegated_role(role).keyids):
        targets.revoke_key(keyid, role)
    targets.add_key(key, role)


def take_over(forged: Forger, folder: Path, *root_keys: CryptoSigner) -> None:
    """A root that names the attacker's keys for everything, and his release below it."""
    roles = ("targets", "snapshot", "timestamp", "pub", "ro")
    mine = {role: CryptoSigner.generate_ed25519() for role in roles}
    root = forged.load("root")
    root.signed.version += 1
    for role in ("targets", "snapshot", "timestamp"):
        for keyid in list(root.signed.roles[role].keyids):
            root.signed.revoke_key(keyid, role)
        root.signed.add_key(mine[role].public_key, role)
    write(forged, "root", root, *root_keys)
    targets = forged.load("targets")
    delegate_to(targets.signed, "pub-vision", mine["pub"].public_key)
    delegate_to(targets.signed, "ro-vision", mine["ro"].public_key)
    targets.signed.version += 1
    write(forged, "targets", targets, mine["targets"])
    release = rogue(forged, folder, mine["pub"], bump=True)
    decide(forged, mine["ro"], release, version=forged.load("ro-vision").signed.version + 1)
    name_all(forged, mine["snapshot"], mine["timestamp"])


def key(scene: Stage, name: str) -> CryptoSigner:
    """A stolen key; a copy, which the drills cannot delete."""
    return read_private(scene.folder / "keys" / f"{name}.pem", no_secrets)


# The drills


def test_one_root_key(scene: Stage) -> None:
    """Nothing to be done with it, before or after; the fleet follows the new root."""
    stolen = key(scene, "offline/root-1")

    def attack() -> Forger:
        forged = scene.forge()
        take_over(forged, scene.folder, stolen)
        return forged

    scene.refuses(attack())
    scene.type("one root key")
    scene.follows()
    scene.refuses(attack())
    # With a second one he would have had a quorum of the former keys, and now has none.
    forged = scene.forge()
    take_over(forged, scene.folder, stolen, key(scene, "offline/root-2"))
    scene.refuses(forged)


def test_a_quorum_of_the_root_keys(scene: Stage) -> None:
    """Everything can be done with it; a device that met the genuine new root first is safe."""
    stolen = [key(scene, f"offline/root-{number}") for number in (1, 2)]

    def attack() -> Forger:
        forged = scene.forge()
        take_over(forged, scene.folder, *stolen)
        return forged

    lost = scene.device.copy(scene.folder / "lost")
    assert scene.meet(attack(), lost) is None
    assert lost.live == "6.6.6"

    scene.type("a quorum of the root keys")
    scene.follows()
    scene.refuses(attack())

    # The device that followed the thief refuses the genuine server, until somebody provisions it anew.
    lost.clock.advance(hours=7)
    assert type(scene.meet(None, lost)) is UntrustedMetadataError
    shutil.rmtree(lost.store / "trust")
    text = lost.config_path.read_text()
    lost.config_path.write_text(
        text.replace(str(scene.folder / "keys" / "root.json"), str(scene.folder / "newest-root.json"))
    )
    lost.clock.advance(hours=7)
    assert scene.meet(None, lost) is None
    assert lost.live == "1.1.0"


def test_the_targets_key(scene: Stage) -> None:
    """With it, and a network, a thief is every publisher towards a new device."""
    stolen = key(scene, "offline/targets-1")

    def attack() -> Forger:
        forged = scene.forge()
        mine = [CryptoSigner.generate_ed25519() for _ in range(2)]
        targets = forged.load("targets")
        for role, signer in zip(("pub-vision", "ro-vision"), mine, strict=True):
            delegate_to(targets.signed, role, signer.public_key)
        write(forged, "targets", targets, stolen)
        decide(forged, mine[1], rogue(forged, scene.folder, mine[0]))
        return forged

    fooled = scene.new_device()
    assert scene.meet(attack(), fooled) is None
    assert fooled.live == "6.6.6"
    scene.type("the targets key")
    scene.refuses(attack(), scene.new_device())
    scene.follows()
    scene.follows("1.0.0", scene.new_device())


def test_a_publishers_key(scene: Stage) -> None:
    """A thief's release is published, rolled out and installed; afterwards it is as if it had not been."""
    thief = scene.folder / "thief"
    shutil.copytree(scene.folder / "keys" / "publishers", thief / "publishers")
    stolen = key(scene, "publishers/vision")
    scene.server.publish(TinyRelease(version="6.6.6", counter=10**9, floor=10**9))
    scene.complete("6.6.6")
    scene.device.clock.advance(hours=7)
    assert scene.meet(None) is None
    assert scene.device.live == "6.6.6"

    write_package(scene.folder / "build" / "digits-1.2", TinyRelease(version="1.2.0", counter=3, seed=2))
    said = scene.type("a publisher's key")
    assert "drops rel/vision/digits/6.6.6.json" in said
    assert "signs rel/vision/digits/1.0.0.json anew" in said
    assert "published vision/digits 1.2.0" in said

    # At the server: neither the token nor, with a token that holds, the key is taken.
    write_package(thief / "package", TinyRelease(version="7.7.7", counter=4, seed=3))
    publish = ["ferry", "publish", str(thief / "package"), "--key", str(thief / "publishers" / "vision.pem")]
    for token, saying in (
        (scene.server.tokens["publisher:vision"], "token"),
        ((scene.folder / "ci-2.token").read_text().strip(), "signed with another key"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "ferry_cli", *publish[1:]],
            env={**os.environ, "FERRY_SERVER": scene.server.url, "FERRY_TOKEN": token},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 1
        assert saying in done.stderr
    # The device that runs the thief's release comes back, from above the floor the thief had set.
    scene.follows("1.2.0")
    # On the network.
    forged = scene.forge()
    rogue(forged, scene.folder, stolen)
    scene.refuses(forged, scene.new_device(), tries=True)


def test_a_rollout_key(scene: Stage) -> None:
    """A thief chooses among signed releases; afterwards he does not."""
    stolen = key(scene, "server/keys/ro-vision")

    def attack() -> Forger:
        forged = scene.forge()
        decide(forged, stolen, ref(forged, "1.1.0"))
        return forged

    fooled = scene.new_device()
    assert scene.meet(attack(), fooled) is None
    assert fooled.live == "1.1.0"  # which is not rolled out
    scene.type("a rollout key")
    scene.refuses(attack(), scene.new_device())
    scene.follows()


def test_the_snapshot_key(scene: Stage) -> None:
    """A thief withholds an update behind a genuine timestamp; afterwards it comes."""
    stolen = key(scene, "server/keys/snapshot")
    policy = versions(scene.server.data)["ro-vision"]

    def attack() -> Forger:
        forged = scene.forge()
        snapshot = forged.load("snapshot")
        snapshot.signed.meta["ro-vision.json"] = MetaFile(policy)
        write(forged, "snapshot", snapshot, stolen)
        return forged

    scene.complete("1.1.0")
    withheld = scene.device.copy(scene.folder / "withheld")
    assert scene.meet(attack(), withheld) is None
    assert withheld.live == "1.0.0"
    scene.type("the snapshot key")
    scene.refuses(attack(), withheld)
    for device in (withheld, scene.device):
        device.clock.advance(hours=7)
        assert scene.meet(None, device) is None
        assert device.live == "1.1.0"


def test_the_timestamp_key(scene: Stage) -> None:
    """A thief runs the version up, and the device refuses everything genuine; the drill brings it back."""
    stolen = key(scene, "server/keys/timestamp")

    def attack(version: int) -> Forger:
        forged = scene.forge()
        timestamp = forged.load("timestamp")
        timestamp.signed.version = version
        write(forged, "timestamp", timestamp, stolen)
        return forged

    assert scene.meet(attack(HIGHEST)) is None
    scene.complete("1.1.0")
    scene.device.clock.advance(hours=7)
    assert type(scene.meet(None)) is UntrustedMetadataError
    assert scene.device.live == "1.0.0"
    scene.type("the timestamp key")
    scene.device.clock.advance(hours=7)
    assert scene.meet(None) is None
    assert scene.device.live == "1.1.0"
    scene.refuses(attack(versions(scene.server.data)["timestamp"] + 1))


def test_the_server_with_all_its_online_keys(scene: Stage) -> None:
    """A thief rolls out what publishers have signed, and nothing else; afterwards not even that."""
    stolen = {role: key(scene, f"server/keys/{role}") for role in ("snapshot", "timestamp", "ro-vision")}

    def attack(release: Callable[[Forger], dict[str, Any]]) -> Forger:
        forged = scene.forge()
        version = forged.load("ro-vision").signed.version + 1
        decide(forged, stolen["ro-vision"], release(forged), version=version)
        name_all(forged, stolen["snapshot"], stolen["timestamp"])
        return forged

    fooled = scene.device.copy(scene.folder / "fooled")
    assert scene.meet(attack(lambda forged: ref(forged, "1.1.0")), fooled) is None
    assert fooled.live == "1.1.0"  # which is not rolled out
    mine = CryptoSigner.generate_ed25519()
    spared = scene.device.copy(scene.folder / "spared")
    scene.refuses(attack(lambda forged: rogue(forged, scene.folder, mine, bump=True)), spared, tries=True)
    assert spared.live == "1.0.0"

    scene.type("the server with all its online keys")
    scene.refuses(attack(lambda forged: ref(forged, "1.1.0")), scene.new_device())
    scene.follows()
    scene.refuses(attack(lambda forged: ref(forged, "1.0.0")))
    fooled.clock.advance(hours=7)
    assert scene.meet(None, fooled) is None
