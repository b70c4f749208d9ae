"""Remembered results are whole or not there: after damage, a kill at any moment, and among several users."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converter.caching.store import DEFAULT_LIMIT_BYTES, ResultStore, cache_folder, default_limit_bytes

KEY, OTHER = "ab" * 32, "cd" * 32
FACTS = {"n": 3, "share": 0.1, "names": {"x": "y"}}
FILES = {"model.bin": b"\x00\x01" * 5000, "bundle/Data/weights": b"w" * 70_000, "empty": b""}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """What a pass left."""
    out = tmp_path / "made"
    for name, content in FILES.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    (out / "model.bin").chmod(0o755)
    return out


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "cache" / "deep")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def _content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_what_is_kept_is_found(store: ResultStore, made: Path, out: Path) -> None:
    assert store.find(KEY, out) is None
    store.keep(KEY, "a_pass", FACTS, made)
    assert store.find(OTHER, out) is None
    assert store.find(KEY, out) == FACTS
    assert _content(out) == FILES
    assert (out / "model.bin").stat().st_mode & 0o777 == 0o755
    (kept,) = store.listing()
    assert (kept.key, kept.name) == (KEY, "a_pass")
    assert kept.length_bytes > sum(map(len, FILES.values()))


def test_no_writer_reaches_what_is_kept(store: ResultStore, made: Path, out: Path, tmp_path: Path) -> None:
    """A tool that opens its input for writing, or a later pass, changes its own copy alone."""
    store.keep(KEY, "a_pass", FACTS, made)
    (made / "model.bin").write_bytes(b"changed")
    store.find(KEY, out)
    with (out / "model.bin").open("r+b") as stream:
        stream.write(b"damage")
    again = tmp_path / "again"
    again.mkdir()
    assert store.find(KEY, again) == FACTS
    assert _content(again) == FILES


def _entry(store: ResultStore) -> Path:
    return next((store.folder / "results").glob("*/*"))


def _set_fact(entry: Path) -> None:
    value = json.loads((entry / "entry.json").read_text())
    value["body"]["facts"]["n"] = 4
    (entry / "entry.json").write_text(json.dumps(value))


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / "files" / "model.bin").write_bytes(b"\x00\x02" * 5000),
        lambda entry: (entry / "files" / "bundle/Data/weights").write_bytes(b"w" * 69_999),
        lambda entry: (entry / "files" / "empty").unlink(),
        lambda entry: (entry / "entry.json").write_bytes(b""),
        lambda entry: (entry / "entry.json").write_bytes(b"[]"),
        lambda entry: (entry / "entry.json").unlink(),
        _set_fact,
    ],
)
def test_damage_is_found_and_removed(
    store: ResultStore, made: Path, out: Path, damage: Callable[[Path], Any]
) -> None:
    store.keep(KEY, "a_pass", FACTS, made)
    damage(_entry(store))
    assert store.find(KEY, out) is None
    assert list(out.iterdir()) == []
    assert list((store.folder / "results").glob("*/*")) == []
    store.keep(KEY, "a_pass", FACTS, made)
    assert store.find(KEY, out) == FACTS


def test_a_result_under_another_key_is_damage(store: ResultStore, made: Path, out: Path) -> None:
    store.keep(KEY, "a_pass", FACTS, made)
    place = store.folder / "results" / OTHER[:2] / OTHER
    place.parent.mkdir()
    _entry(store).rename(place)
    assert store.find(OTHER, out) is None
    assert not place.exists()


def test_a_link_is_not_kept(store: ResultStore, made: Path, out: Path) -> None:
    (made / "link").symlink_to("/etc/hostname")
    store.keep(KEY, "a_pass", FACTS, made)
    assert store.find(KEY, out) is None


def test_a_folder_that_cannot_be_written_only_costs_time(made: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    blocked = ResultStore(tmp_path / "file" / "cache")
    blocked.keep(KEY, "a_pass", FACTS, made)
    assert blocked.find(KEY, out) is None
    blocked.trim()
    blocked.clear()


def test_the_result_unused_for_longest_goes_first(store: ResultStore, made: Path, out: Path) -> None:
    keys = [f"{number:02x}" * 32 for number in range(4)]
    for number, key in enumerate(keys):
        store.keep(key, "a_pass", FACTS, made)
        os.utime(store.folder / "results" / key[:2] / key / "entry.json", (number, number))
    assert store.find(keys[0], out) == FACTS  # used just now
    size = store.listing()[0].length_bytes
    bounded = ResultStore(store.folder, limit_bytes=2 * size + 10)
    bounded.trim()
    assert [item.key for item in bounded.listing()] == [keys[0], keys[3]]
    bounded.clear()
    assert bounded.listing() == []


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from converter.caching.store import ResultStore

folder, made, out, action, moment = sys.argv[1:]
store, left = ResultStore(Path(folder)), [int(moment)]

def count(event, arguments):
    if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.utime", "shutil.rmtree"):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

def act():
    if action == "keep":
        store.keep("ab" * 32, "a_pass", {"n": 3, "share": 0.1, "names": {"x": "y"}}, Path(made))
    elif action == "find":
        store.find("ab" * 32, Path(out))
    else:
        store.clear()

json_is_loaded = __import__("json")
sys.addaudithook(count)
act()
left[0] = 0
"""


@pytest.mark.parametrize("action", ["keep", "find", "clear"])
def test_a_kill_at_any_moment_leaves_it_whole(
    store: ResultStore, made: Path, tmp_path: Path, action: str
) -> None:
    """The process is killed before its first file operation, before its second, and so on until it ends."""
    moment, kills = 0, 0
    while True:
        moment += 1
        if action != "keep":
            store.keep(KEY, "a_pass", FACTS, made)
        own = tmp_path / f"own-{moment}"
        own.mkdir()
        arguments = [str(store.folder), str(made), str(own), action, str(moment)]
        done = subprocess.run([sys.executable, "-S", "-c", KILLED_AT, *arguments], check=False, env=_PATHS)
        seen = tmp_path / f"seen-{moment}"
        seen.mkdir()
        facts = store.find(KEY, seen)
        assert facts in (None, FACTS)
        assert _content(seen) == (FILES if facts else {})
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        kills += 1
        store.trim()
        assert list((store.folder / "making").glob("*")) == [], "what a killed process left"
        if action == "keep":
            store.clear()
    assert kills > 5
    assert (facts == FACTS) == (action != "clear")


_PATHS = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}


def test_many_users_at_once_see_whole_results(store: ResultStore, made: Path, tmp_path: Path) -> None:
    wrong: list[object] = []

    def use(number: int) -> None:
        mine = ResultStore(store.folder, limit_bytes=0 if number == 0 else DEFAULT_LIMIT_BYTES)
        for turn in range(30):
            own = tmp_path / f"user-{number}-{turn}"
            own.mkdir()
            facts = mine.find(KEY, own)
            if facts is None:
                mine.keep(KEY, "a_pass", FACTS, made)
            if _content(own) != (FILES if facts else {}):
                wrong.append(_content(own))
            if number == 0:
                mine.trim()  # of a folder that may hold nothing: every result goes

    users = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert wrong == []


def test_the_environment_says_where_and_how_much(tmp_path: Path) -> None:
    assert cache_folder({"FERRY_CACHE": str(tmp_path)}) == tmp_path
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "ferry"
    assert default_limit_bytes({"FERRY_CACHE_MB": "3"}) == 3 * 2**20
    assert default_limit_bytes({"FERRY_CACHE_MB": "lots"}) == DEFAULT_LIMIT_BYTES
