"""The device's trust layer, judged from outside as any TUF client: exit codes and the metadata it keeps."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.conformance.simulated_repository import Repository, serve

CLIENT = Path(__file__).parent / "tuf_client"


@dataclass(slots=True)
class Client:
    """Calls the executable."""

    folder: Path
    url: str
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def metadata(self) -> Path:
        return self.folder / "metadata"

    @property
    def targets(self) -> Path:
        return self.folder / "targets"

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(CLIENT), "--metadata-dir", str(self.metadata), *arguments]
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, check=False, env=self.environ
        )
        assert done.returncode in (0, 1), done.stderr
        assert (done.returncode == 0) == (done.stderr == ""), done.stderr
        assert done.stderr.count("\n") <= 1
        return done

    def init(self, root: bytes) -> int:
        path = self.folder / "root.json"
        path.write_bytes(root)
        return self.call("init", str(path)).returncode

    def refresh(self) -> int:
        return self.call("--metadata-url", f"{self.url}/metadata", "refresh").returncode

    def download(self, *names: str) -> int:
        wanted = [word for name in names for word in ("--target-name", name)]
        place = ["--target-base-url", f"{self.url}/targets/", "--target-dir", str(self.targets)]
        url = f"{self.url}/metadata/"
        return self.call("--metadata-url", url, *wanted, *place, "download").returncode

    def version(self, role: str) -> int:
        content = json.loads((self.metadata / f"{quote(role, '')}.json").read_bytes())
        return int(content["signed"]["version"])

    def trusted(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.metadata.glob("*.json")}


@dataclass(slots=True)
class World:
    repository: Repository
    client: Client
    asked: list[str]


@pytest.fixture(params=[True, False], ids=["consistent", "plain"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A repository, and a client that trusts its first root and has refreshed."""
    repository = Repository(tmp_path, consistent=request.param)
    with serve(repository) as (url, asked):
        client = Client(tmp_path, url)
        assert client.init(repository.roots[1]) == 0
        assert client.refresh() == 0
        yield World(repository, client, asked)


def test_it_runs_by_itself_and_teaches(tmp_path: Path) -> None:
    """An executable, whatever Python finds it first."""
    done = subprocess.run([CLIENT, "--help"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "--metadata-dir D init ROOT_JSON" in done.stdout


def test_top_level_metadata_is_kept_under_its_plain_names(world: World) -> None:
    for role in ("root", "timestamp", "snapshot", "targets"):
        assert world.client.version(role) >= 1
    assert all("signed" in json.loads(data) for data in world.client.trusted().values())


def test_nothing_is_trusted_without_a_root(world: World) -> None:
    shutil.rmtree(world.client.metadata)
    assert world.client.refresh() == 1


def test_a_root_that_is_none_is_refused(world: World) -> None:
    shutil.rmtree(world.client.metadata)
    world.client.init(b"{}")
    assert world.client.refresh() == 1


def test_new_versions_are_followed(world: World) -> None:
    world.repository.publish()
    assert world.client.refresh() == 0
    assert world.client.version("timestamp") == world.repository.roles["timestamp"].version


def test_nothing_new_changes_nothing(world: World) -> None:
    before = world.client.trusted()
    assert world.client.refresh() == 0
    assert world.client.trusted() == before


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_rollback_is_refused(world: World, role: str) -> None:
    repository = world.repository
    repository.roles["targets"].version = 5
    repository.publish()
    assert world.client.refresh() == 0
    before = world.client.trusted()
    repository.roles[role].version -= 1
    if role != "timestamp":
        repository.roles["timestamp"].version += 1
        repository.roles["timestamp"].snapshot_meta.version = repository.roles["snapshot"].version
    if role == "targets":
        repository.publish()
    for name in ("snapshot", "timestamp"):
        repository.write_role(name)
    assert world.client.refresh() == 1
    assert world.client.trusted()["targets.json"] == before["targets.json"]


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_expired_metadata_is_refused(world: World, role: str) -> None:
    yesterday = (datetime.now(UTC) - timedelta(days=1)).replace(microsecond=0)
    world.repository.roles[role].expires = yesterday
    world.repository.roles["targets"].version += 1
    world.repository.publish()
    assert world.client.refresh() == 1


def test_an_expired_root_is_refused_and_a_renewed_one_taken(world: World) -> None:
    later = world.repository.root.expires
    world.repository.root.expires = (datetime.now(UTC) - timedelta(days=1)).replace(microsecond=0)
    world.repository.publish_root()
    assert world.client.refresh() == 1
    world.repository.root.expires = later
    world.repository.publish_root()
    assert world.client.refresh() == 0
    assert world.client.version("root") == 3


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_foreign_signature_is_refused(world: World, role: str) -> None:
    before = world.client.trusted()
    genuine = world.repository.keys[role]
    world.repository.keys[role] = [world.repository.keys["root"][0]]
    world.repository.roles["targets"].version += 1
    world.repository.publish()
    world.repository.keys[role] = genuine
    assert world.client.refresh() == 1
    assert world.client.trusted()["targets.json"] == before["targets.json"]


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_a_rotated_key_is_followed_and_the_old_one_is_nobody(world: World, role: str) -> None:
    old = world.repository.rotate(role)
    world.repository.publish_root(also=tuple(old) if role == "root" else ())
    world.repository.publish()
    assert world.client.refresh() == 0
    assert world.client.version("root") == 2
    if role != "root":
        world.repository.keys[role] = old
        world.repository.roles["targets"].version += 1
        world.repository.publish()
        assert world.client.refresh() == 1


def test_many_rotations_are_followed_one_by_one(world: World) -> None:
    for _ in range(10):
        old = world.repository.rotate("root")
        world.repository.publish_root(also=tuple(old))
    assert world.client.refresh() == 0
    assert world.client.version("root") == 11


def test_a_root_the_old_key_did_not_sign_is_refused(world: World) -> None:
    world.repository.rotate("root")
    world.repository.publish_root()
    assert world.client.refresh() == 1
    assert world.client.version("root") == 1


def test_a_root_that_skips_a_version_is_refused(world: World) -> None:
    world.repository.root.version += 1
    world.repository.publish_root()
    world.repository.files["/metadata/2.root.json"] = world.repository.files["/metadata/3.root.json"]
    assert world.client.refresh() == 1


def test_a_threshold_counts_keys_not_signatures(world: World) -> None:
    world.repository.add_key("timestamp")
    world.repository.root.roles["timestamp"].threshold = 2
    world.repository.publish_root()
    both = world.repository.keys["timestamp"]
    world.repository.keys["timestamp"] = both[:1]
    world.repository.publish()
    name = "/metadata/timestamp.json"
    twice = json.loads(world.repository.files[name])
    twice["signatures"] *= 2
    world.repository.files[name] = json.dumps(twice).encode()
    assert world.client.refresh() == 1
    world.repository.keys["timestamp"] = both
    world.repository.publish()
    assert world.client.refresh() == 0


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_a_fast_forward_is_undone_by_a_rotation(world: World, role: str) -> None:
    repository = world.repository
    highest = 2**31
    genuine = repository.roles[role].version
    repository.roles[role].version = highest
    repository.publish()
    assert world.client.refresh() == 0
    assert world.client.version(role) > highest
    repository.roles[role].version = genuine
    repository.publish()
    assert world.client.refresh() == 1
    repository.rotate(role)
    repository.publish_root()
    repository.publish()
    assert world.client.refresh() == 0
    assert world.client.version(role) == repository.roles[role].version


def test_a_target_is_fetched_once(world: World) -> None:
    world.repository.add_target("targets", "a/file.bin", b"content")
    world.repository.publish()
    assert world.client.download("a/file.bin") == 0
    (path,) = world.client.targets.iterdir()
    assert path.read_bytes() == b"content"
    world.asked.clear()
    assert world.client.download("a/file.bin") == 0
    assert not [name for name in world.asked if name.startswith("/targets/")]


def test_a_changed_target_is_fetched_anew(world: World) -> None:
    for data in (b"one", b"two"):
        world.repository.add_target("targets", "file", data)
        world.repository.publish()
        assert world.client.download("file") == 0
        assert (world.client.targets / "file").read_bytes() == data


@pytest.mark.parametrize("served", [b"c0ntent", b"content and more", b"cont", b""])
def test_a_target_with_other_bytes_is_refused(world: World, served: bytes) -> None:
    world.repository.add_target("targets", "file", b"content")
    world.repository.publish()
    for name in list(world.repository.files):
        if name.startswith("/targets/"):
            world.repository.files[name] = served
    assert world.client.download("file") == 1
    assert not world.client.targets.exists()


def test_a_target_nobody_signed_is_refused(world: World) -> None:
    world.repository.files["/targets/file"] = b"content"
    assert world.client.download("file") == 1


def test_several_targets_of_delegated_roles(world: World) -> None:
    for role in ("vision", "au/dio"):
        world.repository.delegate(role, f"{role}/*")
        world.repository.add_target(role, f"{role}/model", role.encode())
    world.repository.publish()
    assert world.client.download("vision/model", "au/dio/model") == 0
    assert {path.read_bytes() for path in world.client.targets.iterdir()} == {b"vision", b"au/dio"}


def test_a_role_cannot_sign_outside_its_paths(world: World) -> None:
    world.repository.delegate("vision", "vision/*")
    world.repository.add_target("vision", "audio/model", b"mine")
    world.repository.publish()
    assert world.client.download("audio/model") == 1


def test_a_terminating_delegation_ends_the_search(world: World) -> None:
    world.repository.delegate("first", "shared/*", terminating=True)
    world.repository.delegate("second", "shared/*")
    world.repository.add_target("second", "shared/file", b"of the second")
    world.repository.publish()
    assert world.client.download("shared/file") == 1


def test_torn_metadata_is_fetched_anew(world: World) -> None:
    for path in world.client.metadata.glob("*.json"):
        path.write_bytes(b"")
    assert world.client.refresh() == 0
    assert world.client.version("timestamp") == world.repository.roles["timestamp"].version


def test_an_old_timestamp_after_torn_metadata_is_refused(world: World) -> None:
    """What plain clients accept: the past is empty, and the record beside it is not."""
    old = world.repository.files["/metadata/timestamp.json"]
    world.repository.publish()
    assert world.client.refresh() == 0
    for path in world.client.metadata.glob("*.json"):
        path.write_bytes(b"")
    world.repository.files["/metadata/timestamp.json"] = old
    assert world.client.refresh() == 1
