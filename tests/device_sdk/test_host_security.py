"""What a device's host is promised: no file outside the store, none open to others, no secret told."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_sdk.__main__ import main
from device_sdk.config import read_config
from device_sdk.durable import write_durably
from device_sdk.errors import ConfigError, DeviceError, EnrolmentError, NetworkError, StoreError
from device_sdk.ferry import Ferry
from device_sdk.records import Slot
from device_sdk.self_test import SelfTestLimits, self_test
from device_sdk.slots import Store, files_of
from device_sdk.transport import Answer, Limits, Transport
from ota_contract.errors import ContractError
from ota_contract.manifest import MANIFEST_NAME, parse_release
from tests.ota_contract.release_samples import sample_json
from tests.support.devices import DIGITS, Device, feed
from tests.support.tiny import TinyRelease, write_package

# --- paths -------------------------------------------------------------------------------------------------

SEGMENTS = [
    "a",
    "A",
    "model.onnx",
    "..",
    ".",
    "",
    ".hidden",
    "release.json",
    "RELEASE.JSON",
    ".release.json.new",
    "release.json.new",
    "…",
    "‥",
    "．．",  # full-width dots, which normalise to ..
    "ａ",
    "a\u0301",
    "\u00e1",
    "a\u2215b",
    "a\\b",
    "..\\..\\x",
    "C:",
    "CON",
    "~",
    "$HOME",
    "%2e%2e",
    "a\0b",
    "a\nb",
    "a b",
    "-rf",
    "a.",
    "\u202eb",
    "x" * 128,
    "x" * 129,
    "state.json",
]


def paths() -> st.SearchStrategy[str]:
    """Paths as an attacker would name them, and some that are fine."""
    segment = st.sampled_from(SEGMENTS) | st.text(max_size=6)
    some = st.lists(segment, min_size=1, max_size=4).map("/".join)
    fine = st.lists(st.sampled_from(["a", "A", "b.bin", "model.onnx"]), min_size=1, max_size=3).map("/".join)
    return st.one_of(some, fine, st.text(max_size=12), some.map("/".__add__), st.just("a/" * 9 + "a"))


def places() -> st.SearchStrategy[list[str]]:
    """Of a model, a part and the golden file: one hostile among fine ones, or all as they come."""
    fine = st.tuples(paths(), st.sampled_from(["b/a", "m.onnx", "x"]), st.sampled_from(["g.json", "c/d/e"]))
    return fine.flatmap(st.permutations) | st.lists(paths(), min_size=3, max_size=3)


@pytest.fixture
def outer() -> Iterator[Path]:
    """A folder with a store in it; in memory where there is such a place, since staging flushes."""
    memory = Path("/dev/shm")  # noqa: S108 - a private folder in it
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


def tree(folder: Path, *, without: Path) -> dict[str, bytes | None]:
    """Every file below a folder but those in one of them."""
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path != without and without not in path.parents
    }


def test_whatever_path_a_manifest_names_its_files_land_in_its_own_folder_or_it_is_refused(
    outer: Path,
) -> None:
    store = Store(outer / "store")
    slots = store.model(DIGITS)
    (outer / "bystander").write_bytes(b"as before")
    blobs = {f"{number}" * 64: f"content {number}".encode() for number in range(1, 4)}
    for sha256, content in blobs.items():
        store.blob(sha256).write_bytes(content)
    seen = {"staged": 0, "refused": 0}

    @settings(max_examples=400)
    @given(places())
    def stage(named: list[str]) -> None:
        manifest = sample_json()
        del manifest["variants"][1:]
        (model,) = manifest["variants"][0]["files"]
        part = {**model, "role": "part", "sha256": "2" * 64}
        manifest["variants"][0]["files"] = [{**model, "path": named[0]}, {**part, "path": named[1]}]
        manifest["golden"]["file"].update(path=named[2], sha256="3" * 64)
        data = json.dumps(manifest).encode()
        slot = Slot(version="1.1.0", counter=2, manifest_sha256="a" * 64, variant_id="onnx-fp32")
        target = slots.folder(slot)
        before = tree(outer, without=target)
        try:
            release = parse_release(data)
            files = files_of(release, release.variants[0])
            assert slots.stage(slot, data, files) == target
        except ContractError:
            seen["refused"] += 1
            assert tree(outer, without=target) == before
            return
        seen["staged"] += 1
        assert tree(outer, without=target) == before
        staged = {path for path in target.rglob("*") if path.is_file()}
        assert staged == {target / MANIFEST_NAME, *(target / file.path for file in files)}
        assert len(staged) == 4
        assert all(path.resolve().is_relative_to(target.resolve()) for path in staged)
        assert (target / MANIFEST_NAME).read_bytes() == data
        for file in files:
            assert (target / file.path).read_bytes() == blobs[file.sha256]

    stage()
    assert min(seen.values()) > 20, seen


@pytest.mark.parametrize(
    ("model", "golden"),
    [
        ("a/b", "a"),
        ("a", "a/b"),
        ("A/b", "a"),
        ("a/b", "A/B"),
        ("release.json/a", "b"),
        ("Release.JSON", "b"),
        ("a/b/c", "A/b"),
    ],
)
def test_a_path_that_is_anothers_folder_or_its_twin_in_other_case_is_refused(model: str, golden: str) -> None:
    manifest = sample_json()
    del manifest["variants"][1:]
    manifest["variants"][0]["files"][0]["path"] = model
    manifest["golden"]["file"]["path"] = golden
    with pytest.raises(ContractError, match=r"both a file and a folder|differ only|own place"):
        parse_release(json.dumps(manifest).encode())


def test_a_link_planted_where_a_file_is_written_is_not_followed(tmp_path: Path) -> None:
    """Temporary names can be guessed; where a store was once open, somebody may have been there before."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    store = Store(tmp_path / "store")
    path = store.root / "file"
    (store.root / ".file.new").symlink_to(victim)
    with pytest.raises(StoreError):
        write_durably(path, b"new")
    assert victim.read_bytes() == b"precious"
    write_durably(path, b"new")  # the link is gone
    assert (path.read_bytes(), victim.read_bytes()) == (b"new", b"precious")


# --- modes -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_self_test")
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_what_apps_and_the_agent_write_is_their_users_alone(
    old_device: Device, tmp_path: Path, mask: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Predictions, their counts, a trial's starts, reports, the token, tags, the diary."""
    before = os.umask(mask)
    try:
        twin = old_device.copy(tmp_path / "twin")
        token = (twin.store / "token").read_bytes()
        shutil.rmtree(twin.store)
        Store(twin.store)
        write_durably(twin.store / "token", token)  # the server would not enrol it twice
        with twin.agent() as agent, Ferry(twin.config, start_agent=False) as ferry:
            agent.poll()
            model = ferry.model("vision/digits")
            feed(model, 3)
            model.flush(interval_s=0, rollout_interval_s=0, now=True)
            written = {path.relative_to(twin.store) for path in twin.store.rglob("*") if path.is_file()}
            assert main(["status", "--config", str(twin.config_path), "--json"]) == 0
            check_modes(twin.store)
            agent.step()
            agent.report_now()
        check_modes(twin.store)
    finally:
        os.umask(before)
    folders = {path.parts[0] for path in written}
    assert {"blobs", "models", "reports", "trust", "agent.lock", "activity.json", "token"} <= folders
    assert any("starts" in path.parts for path in written)
    assert any("incoming" in path.parts for path in written)
    capsys.readouterr()


def check_modes(store: Path) -> None:
    for path in (store, *store.rglob("*")):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_files_copied_where_links_cannot_be_made_are_private_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    store = Store(tmp_path / "store")
    data = json.dumps(sample_json()).encode()
    release = parse_release(data)
    files = files_of(release, release.variants[0])
    for file in files:
        write_durably(store.blob(file.sha256), b"content")
    slot = Slot(version="1.1.0", counter=2, manifest_sha256="a" * 64, variant_id="onnx-fp32")
    before = os.umask(0)
    try:
        folder = store.model(DIGITS).stage(slot, data, files)
    finally:
        os.umask(before)
    check_modes(store.root)
    assert (folder / files[0].path).read_bytes() == b"content"
    assert (folder / files[0].path).stat().st_nlink == 1


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o710, 0o1777, 0o2775])
def test_a_store_folder_open_to_others_is_closed(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    folder.chmod(mode)
    Store(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_an_open_store_folder_that_is_not_ours_to_close_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    folder = tmp_path / "store"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(StoreError, match="open to other users"):
        Store(folder)
    assert list(folder.iterdir()) == []


# --- the self-test's process -------------------------------------------------------------------------------


def test_the_self_test_imports_nothing_from_the_folder_the_agent_was_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where that is a folder others can write to, they would else have run code as the agent's user."""
    release = write_package(tmp_path / "package", TinyRelease())
    shared = tmp_path / "shared"
    (shared / "device_sdk").mkdir(parents=True)
    for name in ("json.py", "numpy.py", "device_sdk/__init__.py", "device_sdk/self_test_child.py"):
        (shared / name).write_text(f"open({str(tmp_path / 'taken')!r}, 'w')\n")
    monkeypatch.chdir(shared)
    assert self_test(tmp_path / "package", release.variants[0].id, threads=1, limits=SelfTestLimits()) == 3
    assert not (tmp_path / "taken").exists()


# --- secrets -----------------------------------------------------------------------------------------------

PLANTED = "planted-device-token-5b1f"
PASSWORD = "hunter2"


def told_anywhere(secret: str, device: Device, *texts: str) -> list[str]:
    """Where a secret can be read, other than in the files meant to hold it."""
    kept = [path for path in device.store.rglob("*") if path.is_file() and path.name != "token"]
    found = [str(path) for path in kept if secret.encode() in path.read_bytes()]
    return found + [text for text in texts if secret in text]


@pytest.mark.usefixtures("no_self_test")
def test_tokens_are_in_no_log_status_report_or_error(
    old_device: Device,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """From a poll to a refusal by the server, with every library's log open."""
    twin = old_device.copy(tmp_path / "twin")
    secret = (twin.folder / "enrolment.token").read_text().strip()
    token = (twin.store / "token").read_text()
    errors = []
    with caplog.at_level(logging.DEBUG):
        twin.poll()
        twin.predict()
        with twin.agent() as agent:
            agent.report_now()
            (twin.store / "token").write_text(PLANTED)
            for _ in range(2):  # the server does not know it; nor does it enrol a device twice
                with pytest.raises(EnrolmentError) as refusal:
                    agent.report_now()
                errors.append(f"{refusal.value!r} {refusal.value.__cause__!r}")
        for words in ([], ["--json"]):
            main(["check", "--config", str(twin.config_path), *words])
            main(["status", "--config", str(twin.config_path), *words])
    printed = capfd.readouterr()
    assert "POST /api/v1/reports" in caplog.text  # the logs were open
    assert "has enrolled before" in printed.out + printed.err
    for planted in (secret, token, PLANTED):
        assert len(planted) > 10
        assert told_anywhere(planted, twin, caplog.text, printed.out, printed.err, *errors) == []


@pytest.mark.parametrize("status", [401, 422, 500])
def test_a_middlebox_that_gives_back_the_request_does_not_get_a_token_into_the_log(
    old_device: Device,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    def echo(*_: object, headers: dict[str, str], **__: object) -> Answer:
        body = json.dumps({"detail": f"refused: {headers}"}).encode()
        return Answer(status=status, body=body, etag="", retry_after_s=None)

    monkeypatch.setattr(Transport, "send", echo)
    twin = old_device.copy(tmp_path / "twin")
    (twin.store / "token").write_text(PLANTED)
    errors = []
    with caplog.at_level(logging.DEBUG), twin.agent() as agent:
        for _ in range(2):
            try:
                agent.report_now()
            except (EnrolmentError, NetworkError) as error:
                errors.append(str(error))
            (twin.store / "token").unlink(missing_ok=True)  # so that it enrols, too
        agent._report()
    assert len(errors) == (1 if status == 422 else 2)  # reports it calls malformed are dropped, and no error
    assert any("refused" in error for error in errors)
    secret = (twin.folder / "enrolment.token").read_text().strip()
    for planted in (PLANTED, secret):
        assert told_anywhere(planted, twin, caplog.text, *errors) == []


@pytest.mark.parametrize(
    "line",
    [
        f'server = "https://ferry:{PASSWORD}@example.com"',
        f'server = "https://{PASSWORD}@example.com:8443/below"',
        f'server = "ftp://ferry:{PASSWORD}@example.com"',
        f'server = "https://ferry:{PASSWORD}@example.com?x"',
        f'server = "https://ferry:{PASSWORD}@[::1"',
        f'server = "http://localhost"\nblobs_url = "https://ferry:{PASSWORD}@cdn.example.com"',
        f'server = "http://localhost"\nmetadata_url = "https://ferry:{PASSWORD}@cdn.example.com"',
        f'server = "http://localhost"\ncloud = {{ url = "https://ferry:{PASSWORD}@cloud.example.com" }}',
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(tmp_path: Path, line: str) -> None:
    path = tmp_path / "device.toml"
    path.write_text(f'{line}\nstore = "store"\ntrust_root = "root.json"\nmodels = ["a/b"]\n')
    with pytest.raises(ConfigError, match="holds no user or password") as refusal:
        read_config(path)
    assert PASSWORD not in f"{refusal.value!r} {refusal.value.__cause__!r}"


def test_a_proxys_password_is_in_no_error_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    told = []
    with caplog.at_level(logging.DEBUG):
        for scheme, proxy in itertools.product(("http", "https"), ("http", "https", "socks5")):
            environ = {f"{scheme}_proxy": f"{proxy}://ferry:{PASSWORD}@127.0.0.1:1"}
            with pytest.raises(DeviceError) as refusal:
                Transport(Limits(connect_s=0.5), environ=environ).get(f"{scheme}://example.com/", max_bytes=1)
            told.append(f"{refusal.value!r} {refusal.value.__cause__!r}")
    assert len(told) == 6
    assert not [text for text in (*told, caplog.text) if PASSWORD in text]


def test_the_search_for_secrets_finds_them(old_device: Device, tmp_path: Path) -> None:
    """Else none of the above could fail."""
    twin = old_device.copy(tmp_path / "twin")
    (twin.store / "token").write_text(PLANTED)
    assert told_anywhere(PLANTED, twin, "nothing") == []
    (twin.store / "activity.json").write_text(json.dumps({"message": PLANTED}))
    assert told_anywhere(PLANTED, twin, "nothing", f"a {PLANTED}!") == [
        str(twin.store / "activity.json"),
        f"a {PLANTED}!",
    ]
