"""`ferry keys init`: what it makes, for whom it is readable, and that it is all or nothing."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, Targets

from ferry_cli.__main__ import main
from ota_contract.errors import InvalidNameError
from ota_server.adapters.keys import Threshold, init_keys
from ota_server.errors import SetupError, StorageError
from tests.support.faults import Crash, Faults, disk_full
from tests.support.tuf_view import of_folder

NOW = datetime.now(UTC).replace(microsecond=0)
ONE = Threshold(needed=1, keys=1)


def make(folder: Path, *publishers: str, root: Threshold = ONE, targets: Threshold = ONE) -> Path:
    init_keys(folder, publishers or ("vision",), root=root, targets=targets, now=NOW)
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def metadata(folder: Path, name: str) -> Metadata[Any]:
    return Metadata.from_file(str(folder / "server" / "repository" / "metadata" / name))


def keyid(pem: Path) -> str:
    private = load_pem_private_key(pem.read_bytes(), None)
    return str(CryptoSigner(private).public_key.keyid)


def test_layout_is_the_documented_one(tmp_path: Path) -> None:
    folder = make(tmp_path / "keys", "vision", "audio", root=Threshold(needed=2, keys=3))
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "root.json",
        *(f"offline/root-{number}.pem" for number in (1, 2, 3)),
        "offline/targets-1.pem",
        "publishers/vision.pem",
        "publishers/audio.pem",
        "server/keys.json",
        *(f"server/keys/{role}.pem" for role in ("snapshot", "timestamp", "ro-vision", "ro-audio")),
        *(
            f"server/repository/metadata/{name}.json"
            for name in (
                *("1.root", "1.targets", "1.snapshot", "timestamp"),
                *("1.pub-vision", "1.pub-audio", "1.ro-vision", "1.ro-audio"),
            )
        ),
    }


def test_private_keys_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    folder = make(tmp_path / "keys")
    keys = list(folder.rglob("*.pem"))
    assert len(keys) == 6
    assert {mode(path) for path in keys} == {0o600}
    assert {mode(path.parent) for path in keys} == {0o700}
    assert mode(folder) == 0o700
    assert mode(folder / "server" / "keys.json") == 0o600


def test_no_offline_or_publisher_key_is_in_the_server_folder(tmp_path: Path) -> None:
    """A stolen server has no key that devices trust for releases."""
    folder = make(tmp_path / "keys")
    online = {path.read_bytes() for path in (folder / "server").rglob("*") if path.is_file()}
    for pem in [*(folder / "offline").iterdir(), *(folder / "publishers").iterdir()]:
        assert pem.read_bytes() not in online
    uris = json.loads((folder / "server" / "keys.json").read_text())
    assert set(uris) == {"snapshot", "timestamp", "ro-vision"}


def test_root_verifies_itself_and_every_top_role(tmp_path: Path) -> None:
    folder = make(tmp_path / "keys", root=Threshold(needed=2, keys=3), targets=Threshold(needed=2, keys=2))
    root: Metadata[Root] = Metadata.from_file(str(folder / "root.json"))
    root.verify_delegate("root", root)
    for role, file in (("targets", "1.targets"), ("snapshot", "1.snapshot"), ("timestamp", "timestamp")):
        root.verify_delegate(role, metadata(folder, f"{file}.json"))
    roles = root.signed.roles
    assert (roles["root"].threshold, len(roles["root"].keyids)) == (2, 3)
    assert (roles["targets"].threshold, len(roles["targets"].keyids)) == (2, 2)
    assert root.signed.consistent_snapshot is True


def test_fewer_signatures_than_the_threshold_do_not_verify(tmp_path: Path) -> None:
    folder = make(tmp_path / "keys", root=Threshold(needed=2, keys=2))
    root: Metadata[Root] = Metadata.from_file(str(folder / "root.json"))
    root.signatures.popitem()
    with pytest.raises(UnsignedMetadataError):
        root.verify_delegate("root", root)


def test_every_role_has_a_key_of_its_own(tmp_path: Path) -> None:
    folder = make(tmp_path / "keys", "vision", "audio")
    identities = [keyid(path) for path in folder.rglob("*.pem")]
    assert len(set(identities)) == len(identities) == 8


def test_targets_role_only_delegates_and_every_delegation_terminates(tmp_path: Path) -> None:
    folder = make(tmp_path / "keys", "vision", "audio")
    targets: Targets = metadata(folder, "1.targets.json").signed
    assert targets.targets == {}
    assert targets.delegations is not None
    roles = targets.delegations.roles
    assert roles is not None
    assert {name: (role.paths, role.terminating, role.threshold) for name, role in roles.items()} == {
        "pub-vision": (["rel/vision/*/*.json"], True, 1),
        "ro-vision": (["rollout/vision/*"], True, 1),
        "pub-audio": (["rel/audio/*/*.json"], True, 1),
        "ro-audio": (["rollout/audio/*"], True, 1),
    }
    assert roles["pub-vision"].keyids == [keyid(folder / "publishers" / "vision.pem")]
    assert roles["ro-vision"].keyids == [keyid(folder / "server" / "keys" / "ro-vision.pem")]
    for name in roles:
        targets.verify_delegate(
            name,
            metadata(folder, f"1.{name}.json").signed_bytes,
            metadata(folder, f"1.{name}.json").signatures,
        )


def test_an_independent_client_follows_the_fresh_repository(tmp_path: Path) -> None:
    folder = make(tmp_path / "keys", root=Threshold(needed=2, keys=3))
    view = of_folder(folder / "server", folder / "root.json", tmp_path / "client")
    view.refreshed()
    assert view.target("rel/vision/digits/1.0.0.json") is None
    assert view.policy() is None


def test_existing_keys_are_never_overwritten(tmp_path: Path) -> None:
    folder = make(tmp_path / "keys")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(SetupError, match="never overwritten"):
        make(folder, "audio")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_folder_with_one_foreign_file_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(SetupError, match="not empty"):
        make(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("mine")
    with pytest.raises(SetupError, match="not empty"):
        make(tmp_path / "keys")
    assert (tmp_path / "keys").read_text() == "mine"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    assert (make(tmp_path / "keys") / "root.json").exists()


@pytest.mark.parametrize("folder", [".", "..", "/", "keys/.."])
def test_a_folder_without_a_name_of_its_own_is_refused(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SetupError, match="give a new folder"):
        make(Path(folder))
    assert list(tmp_path.iterdir()) == []


@given(
    name=st.text(max_size=80).filter(
        lambda text: not (text and text.isascii() and text == text.lower() and text[:1].isalnum())
    )
)
def test_a_publisher_is_named_in_small_ascii_letters(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "never"
    with pytest.raises(InvalidNameError):
        init_keys(folder, [name], root=ONE, targets=ONE, now=NOW)
    assert not folder.exists()


@pytest.mark.parametrize(
    "name", ["", "Vision", "../up", "a/b", "a.b", "-a", "a b", "vísion", "а", "a\n", "x" * 65, "ａ"]
)
def test_names_that_could_be_paths_or_look_alikes_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidNameError):
        make(tmp_path / "keys", name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("publishers", "message"), [((), "at least one"), (("a", "a"), "named twice")])
def test_publishers_are_named_once_each(publishers: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=message):
        init_keys(tmp_path / "keys", publishers, root=ONE, targets=ONE, now=NOW)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_at_any_step_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, or nothing: half a set of keys would be trusted by nobody and kept by somebody."""
    faults = Faults(monkeypatch)
    with faults.at(None, Crash):
        make(tmp_path / "whole")
    steps = faults.count
    assert steps > 40
    for step in range(0, steps - 1, 3):
        folder = tmp_path / "keys"
        with faults.at(step, disk_full), pytest.raises(StorageError, match="No space left"):
            make(folder)
        assert [path.name for path in tmp_path.iterdir()] == ["whole"], step


def test_a_death_at_any_step_lets_the_command_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults(monkeypatch)
    for step in (0, 7, 21, 40):
        folder = tmp_path / f"keys-{step}"
        with faults.at(step, Crash), pytest.raises(Crash):
            make(folder)
        assert not folder.exists()
        assert (make(folder) / "root.json").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("--root", "3/2"), ("--root", "0/1"), ("--root", "1"), ("--targets", "2/1"), ("--targets", "a/b")],
)
def test_thresholds_are_k_of_n(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "init", str(tmp_path / "keys"), "--publisher", "vision", option, value]) == 1
    error = capsys.readouterr().err
    assert option in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_command_names_every_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "keys"
    assert main(["keys", "init", str(folder), "--publisher", "vision", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "encrypted": False,
        "root": str(folder / "root.json"),
        "offline": str(folder / "offline"),
        "publishers": {"vision": str(folder / "publishers" / "vision.pem")},
        "server": str(folder / "server"),
    }
    assert all(Path(path).exists() for path in (document["root"], document["offline"], document["server"]))
    root: Metadata[Root] = Metadata.from_file(document["root"])
    assert (root.signed.roles["root"].threshold, len(root.signed.roles["root"].keyids)) == (2, 3)
