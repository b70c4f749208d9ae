"""Updates by delta on a real server: few bytes where it can be, whole files where not, attacks refused."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from converter.deltas.package import add_deltas
from device_sdk.errors import DigestMismatchError, NetworkError
from device_sdk.slots import _SPARE_BYTES
from ota_contract.delta import MAGIC
from ota_contract.manifest import Delta
from ota_contract.names import blob_path
from tests.device_sdk.test_crash_safety import completes, poll_until, works
from tests.support.deltas import Copy, Diff, Insert, pad, put_delta, written
from tests.support.devices import Device, complete, make_device, settle
from tests.support.fleet import TestServer, start_server
from tests.support.network import Fault, Proxy, answer, corrupt, drop_after, run_proxy
from tests.support.scene import Scene, without_etag
from tests.support.tiny import TinyRelease, write_package

pytestmark = pytest.mark.usefixtures("no_self_test")

BLOBS = r"^/blobs/"
_WEIGHTS = np.random.default_rng(1).normal(0, 0.1, 100_000).astype("<f4")
_STEP = np.random.default_rng(2).normal(0, 1e-5, 20_000).astype("<f4")
OLD = _WEIGHTS.tobytes()
"""The second file of 1.0.0: weights, of which a fifth trained on for 1.1.0."""
NEW = np.concatenate([_WEIGHTS[:20_000] + _STEP, _WEIGHTS[20_000:]]).tobytes()
SMALL = 6000
"""More than the rest of a release: model, golden vectors and their delta."""


def package(folder: Path, version: str, counter: int, padding: bytes) -> Path:
    write_package(folder, TinyRelease(version=version, counter=counter, seed=counter))
    pad(folder, padding)
    return folder


@dataclass(frozen=True, slots=True)
class World:
    """A server on 1.1.0 and a healthy device that is still on 1.0.0; copy it."""

    server: TestServer
    device: Device
    delta: Delta
    """From 1.0.0 to 1.1.0's second file."""
    folder: Path
    """Packages."""

    @property
    def delta_url(self) -> str:
        return f"/blobs/{blob_path(self.delta.file.sha256)}$"

    @property
    def whole_url(self) -> str:
        return f"/blobs/{blob_path(self.delta.target_sha256)}$"

    def scene(self, proxy: Proxy, folder: Path) -> Scene:
        """A copy of the device behind the proxy."""
        device = self.device.copy(folder / "device")
        text = device.config_path.read_text()
        device.config_path.write_text(text.replace(f'"{self.server.url}"', f'"{proxy.url}"'))
        return Scene(self.server, proxy, device, folder)


def make_world(root: Path, steps: bytes | None = None) -> World:
    """With the delta `ferry delta` makes, or with one of those bytes."""
    server = start_server(root / "server")
    old = package(root / "1.0.0", "1.0.0", 1, OLD)
    new = package(root / "1.1.0", "1.1.0", 2, NEW)
    server.publish_folder(old)
    complete(server, "1.0.0")
    device = make_device(server, root / "device")
    settle(device)
    assert (device.live, device.update) == ("1.0.0", "healthy")
    target = hashlib.sha256(NEW).hexdigest()
    if steps is None:
        release, _ = add_deltas(new, [old])
        delta = next(item for item in release.deltas if item.target_sha256 == target)
    else:
        delta = put_delta(new, steps, OLD, NEW)
    server.publish_folder(new)
    complete(server, "1.1.0")
    device.clock.now = server.clock()
    return World(server, device, delta, root)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = make_world(tmp_path_factory.mktemp("world"))
    yield world
    world.server.stop()


@pytest.fixture
def proxy(world: World) -> Iterator[Proxy]:
    with run_proxy(world.server.url) as proxy:
        yield proxy


@pytest.fixture
def scene(world: World, proxy: Proxy, tmp_path: Path) -> Scene:
    return world.scene(proxy, tmp_path)


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """In memory where there is such a place: thousands of fsyncs are most of that test's time."""
    memory = Path("/dev/shm")  # noqa: S108 - a private folder in it
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def is_updated(scene: Scene) -> None:
    device = scene.device
    assert (device.live, device.update) == ("1.1.0", "live_on_trial")
    assert device.predict().release == "1.1.0"
    state = device.state
    assert state.live is not None
    assert (device.slots.folder(state.live) / "variants/onnx-fp32/padding.bin").read_bytes() == NEW
    assert not list((device.store / "blobs").glob("*.part"))


def later(scene: Scene) -> Exception | None:
    scene.device.clock.advance(hours=7)  # past any wait of its own
    return scene.poll()


def test_a_device_fetches_the_delta_alone(
    world: World, scene: Scene, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="ferry"):
        assert scene.poll() is None
    is_updated(scene)
    length = world.delta.file.length_bytes
    assert length < len(NEW) / 5
    assert proxy.sent(world.delta_url) == length
    assert proxy.sent(world.whole_url) == 0
    assert proxy.sent(BLOBS) < length + SMALL
    told = [record.getMessage() for record in caplog.records if "downloading" in record.getMessage()]
    assert len(told) == 1
    assert "2 deltas of" in told[0]
    assert f"bytes instead of {len(NEW) + golden_bytes(world):,}" in told[0]


def golden_bytes(world: World) -> int:
    return (world.folder / "1.1.0" / "golden.json").stat().st_size


def test_a_new_device_fetches_whole_files(world: World, proxy: Proxy, tmp_path: Path) -> None:
    device = make_device(world.server, tmp_path / "new", "device-2", url=proxy.url)
    device.poll()
    is_updated(Scene(world.server, proxy, device, tmp_path))
    assert proxy.sent(world.delta_url) == 0
    assert proxy.sent(world.whole_url) == len(NEW)


# Two releases with one delta each from 1.0.0, both genuine, both of one length.
_NOISE = [np.random.default_rng(seed).bytes(20_000) for seed in (1, 2)]
_TARGETS = [OLD[:300_000] + noise for noise in _NOISE]
_DELTAS = [written([Copy(0, 300_000), Insert(noise)]) for noise in _NOISE]


@pytest.fixture
def two_deltas(tmp_path: Path) -> Iterator[Scene]:
    """A healthy device on 1.0.0; 1.1.0 and 1.2.0 are published, each with a delta."""
    assert len(_DELTAS[0]) == len(_DELTAS[1])
    server = start_server(tmp_path / "server")
    server.publish_folder(package(tmp_path / "1.0.0", "1.0.0", 1, OLD))
    complete(server, "1.0.0")
    for index, version in enumerate(("1.1.0", "1.2.0")):
        folder = package(tmp_path / version, version, 2 + index, _TARGETS[index])
        put_delta(folder, _DELTAS[index], OLD, _TARGETS[index])
        server.publish_folder(folder)
    with run_proxy(server.url) as proxy:
        device = make_device(server, tmp_path / "device", url=proxy.url)
        settle(device)
        complete(server, "1.1.0")
        device.clock.now = server.clock()
        yield Scene(server, proxy, device, tmp_path)
    server.stop()


SWAPS: dict[str, Fault] = {
    "another release's genuine delta": answer(200, _DELTAS[1]),
    "one flipped bit": corrupt(10_000),
    "a flipped bit in its magic": corrupt(0),
    "another file of that length": answer(200, b"x" * len(_DELTAS[0])),
}


@pytest.mark.parametrize("name", SWAPS)
def test_a_swapped_delta_is_refused(two_deltas: Scene, name: str) -> None:
    """Nothing moves, and the next attempt, with the attack still on, needs no delta."""
    scene, device = two_deltas, two_deltas.device
    scene.proxy.misbehave(BLOBS, answer(503, Retry_After="1"))
    assert isinstance(scene.poll(), NetworkError)  # the new policy is known; what follows is the attack alone
    scene.proxy.heal()
    before = device.footprint()
    scene.proxy.misbehave(url_of(_DELTAS[0]), SWAPS[name])
    scene.is_set_aside(DigestMismatchError, "the bytes are not the signed ones")
    after = device.footprint()
    assert after.live == before.live == "1.0.0"
    assert without_etag(after.record) == without_etag(before.record)
    assert device.activity()["refused"]["blobs"] == 1
    assert not (device.store / "blobs" / hashlib.sha256(_TARGETS[0]).hexdigest()).exists()
    assert scene.proxy.sent(url_of(_TARGETS[0])) == 0
    scene.proxy.forget()
    assert later(scene) is None
    assert device.live == "1.1.0"
    assert device.predict().release == "1.1.0"
    assert scene.proxy.sent(url_of(_DELTAS[0])) == 0, "a bad delta was asked for again"
    assert scene.proxy.sent(url_of(_TARGETS[0])) == len(_TARGETS[0])
    assert not list((device.store / "blobs").glob("*.part"))


def url_of(data: bytes) -> str:
    return f"/blobs/{blob_path(hashlib.sha256(data).hexdigest())}$"


@pytest.mark.parametrize("length", [-500, +500], ids=["shorter", "longer"])
def test_a_swapped_delta_of_another_length_ends_in_the_whole_file(
    scene: Scene, world: World, length: int
) -> None:
    """It looks like a link that breaks. It must not look so for ever."""
    scene.proxy.misbehave(world.delta_url, answer(200, b"x" * (world.delta.file.length_bytes + length)))
    errors = [later(scene) for _ in range(4) if scene.device.live == "1.0.0"]
    assert {type(error) for error in errors[:-1]} <= {NetworkError, DigestMismatchError}
    assert errors[-1] is None
    is_updated(scene)
    assert scene.proxy.sent(world.whole_url) == len(NEW)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_delta_the_server_cannot_give_is_done_without(scene: Scene, world: World, status: int) -> None:
    scene.proxy.misbehave(world.delta_url, answer(status))
    assert scene.poll() is None
    is_updated(scene)
    assert scene.proxy.sent(world.whole_url) == len(NEW)


def test_a_busy_server_is_left_alone_also_over_a_delta(scene: Scene, world: World) -> None:
    scene.proxy.misbehave(world.delta_url, answer(503, Retry_After="600"))
    assert isinstance(scene.poll(), NetworkError)
    assert scene.proxy.sent(world.whole_url) == 0
    scene.proxy.heal()
    assert later(scene) is None
    is_updated(scene)
    assert scene.proxy.sent(world.whole_url) == 0


@pytest.mark.parametrize("damage", ["missing", "damaged", "shorter"])
def test_without_a_sound_base_the_whole_file_is_fetched(scene: Scene, world: World, damage: str) -> None:
    base = scene.device.store / "blobs" / world.delta.base_sha256
    base.unlink()
    if damage != "missing":
        base.write_bytes(OLD[:-4] if damage == "shorter" else OLD[:-4] + b"four")
    assert scene.poll() is None
    is_updated(scene)
    assert scene.proxy.sent(world.delta_url) == 0
    assert scene.proxy.sent(world.whole_url) == len(NEW)


def test_an_interrupted_delta_goes_on_where_it_ended(scene: Scene, world: World) -> None:
    length = world.delta.file.length_bytes
    scene.proxy.misbehave(world.delta_url, drop_after(length // 3))
    assert isinstance(scene.poll(), NetworkError)
    part = scene.device.store / "blobs" / f"{world.delta.file.sha256}.part"
    assert part.stat().st_size == length // 3
    assert (scene.device.live, scene.device.update) == ("1.0.0", "downloading")
    scene.proxy.heal()
    assert scene.poll() is None
    is_updated(scene)
    ranges = [seen.range for seen in scene.proxy.seen if world.delta.file.sha256 in seen.path]
    assert ranges == ["", f"bytes={length // 3}-"]
    assert scene.proxy.sent(world.delta_url) == length
    assert scene.proxy.sent(world.whole_url) == 0


def test_a_file_that_is_nearly_here_is_finished_without_a_delta(scene: Scene, world: World) -> None:
    (scene.device.store / "blobs" / f"{world.delta.target_sha256}.part").write_bytes(NEW[:-1000])
    assert scene.poll() is None
    is_updated(scene)
    assert scene.proxy.sent(world.delta_url) == 0
    assert scene.proxy.sent(world.whole_url) == 1000


def test_where_there_is_no_room_for_both_the_whole_file_is_fetched(
    scene: Scene, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(scene.device.store)
    room = len(NEW) + SMALL + _SPARE_BYTES
    tight = type(usage)(usage.total, usage.total - room, room)
    monkeypatch.setattr("device_sdk.slots.shutil.disk_usage", lambda _: tight)
    assert scene.poll() is None
    is_updated(scene)
    assert scene.proxy.sent(world.delta_url) == 0
    assert scene.proxy.sent(world.whole_url) == len(NEW)


USELESS: dict[str, bytes] = {
    "no delta at all": b"x" * 20_000,
    "garbage behind the magic": MAGIC + b"x" * 20_000,
    "makes another file": written([Copy(4, 300_000), Insert(_NOISE[0])]),
    "makes a shorter file": written([Copy(0, 1000)]),
    "makes a longer file": written([Copy(0, 400_000), Insert(_NOISE[0])]),
    "of another base": written([Copy(300_000, 100_004), Diff(0, OLD[:4], NEW[:4], 4)]),
}


@pytest.mark.parametrize("name", USELESS)
def test_a_publishers_useless_delta_costs_its_bytes_once(tmp_path: Path, name: str) -> None:
    """Signed, and wrong: the whole file comes in the same attempt, whatever the link does meanwhile."""
    world = make_world(tmp_path, USELESS[name])
    with run_proxy(world.server.url) as proxy:
        scene = world.scene(proxy, tmp_path / "twin")
        proxy.misbehave(world.whole_url, drop_after(100_000), times=2)
        for _ in range(2):
            assert isinstance(scene.poll(), NetworkError)
            assert scene.device.live == "1.0.0"
        proxy.heal()
        assert scene.poll() is None
        is_updated(scene)
        assert proxy.sent(world.delta_url) == len(USELESS[name])
        assert proxy.sent(world.whole_url) == len(NEW)
        assert scene.device.activity()["refused"]["blobs"] == 0  # no attack
    world.server.stop()


def test_a_useless_delta_is_told_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = make_world(tmp_path, USELESS["makes another file"])
    with caplog.at_level(logging.INFO, logger="ferry"):
        assert "live on trial" in world.device.poll()
    told = "\n".join(record.getMessage() for record in caplog.records)
    assert "deltas/0.delta: it does not make variants/onnx-fp32/padding.bin" in told
    assert "verified (3 files; deltas/0.delta: it does not make" in told
    world.server.stop()


@pytest.mark.parametrize("kind", ["power cut", "disk full"])
def test_a_fault_at_any_write_of_an_update_by_delta_leaves_a_release_that_answers(
    world: World,
    memory_path: Path,
    kind: str,
) -> None:
    clean = world.device.copy(memory_path / "clean")
    changes = poll_until(clean, None, full=False)
    assert clean.live == "1.1.0"
    assert any(".made.part" in change for change in changes), "no delta was applied"
    seen = set()
    for number in range(len(changes)):
        twin = world.device.copy(memory_path / f"twin-{number}")
        done = poll_until(twin, number, full=kind == "disk full")
        assert len(done) > number, "the fault was not met"
        seen.add(works(twin))
        completes(twin)
    assert seen == {"1.0.0", "1.1.0"}
