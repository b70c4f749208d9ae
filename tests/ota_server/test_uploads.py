"""Uploads: resumable, exact to the byte, within the quota, and apart by publisher."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_server.adapters import blobs as blobs_module
from ota_server.adapters.blobs import FolderBlobs
from ota_server.errors import BlobMismatchError, StorageError, UploadOffsetError
from ota_server.operations import publishing
from tests.support.calls import Answer, Caller
from tests.support.faults import disk_full
from tests.support.fleet import TestServer, start_server
from tests.support.registry import make_bench, principal
from tests.support.state import fingerprint

QUOTA = 100_000
DATA = bytes(range(256)) * 40
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def tight(tmp_path: Path) -> Iterator[TestServer]:
    server = start_server(tmp_path / "server", publishers=("vision", "audio"), quota_bytes=QUOTA)
    yield server
    server.stop()


def caller(server: TestServer, publisher: str = "vision") -> Caller:
    return Caller(server.url, server.tokens[f"publisher:{publisher}"])


def patch(
    call: Caller, digest: str, data: bytes, *, length: int, offset: int = 0, publisher: str = "vision"
) -> Answer:
    path = f"publishers/{publisher}/blobs/{digest}?length={length}&offset={offset}"
    return call("PATCH", path, raw=data, headers={"Content-Type": "application/octet-stream"})


def state(call: Caller, digest: str, length: int, publisher: str = "vision") -> Answer:
    return call("GET", f"publishers/{publisher}/blobs/{digest}?length={length}")


def blob(server: TestServer, digest: str) -> Path:
    return server.data / "blobs" / "sha256" / digest[:2] / digest


def parts(server: TestServer) -> list[Path]:
    return list((server.data / "uploads").rglob("*.part"))


@given(cuts=st.lists(st.integers(0, len(DATA)), max_size=6))
def test_any_cut_into_chunks_gives_the_same_blob(
    cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("blobs")
    store = FolderBlobs(root / "blobs", root / "uploads")
    bounds = [0, *sorted(cuts), len(DATA)]
    for start, end in pairwise(bounds):
        if store.length_bytes(DIGEST) is None:
            assert store.offset("vision", DIGEST) == start
            assert store.append("vision", DIGEST, start, DATA[start:end], len(DATA)) == end
    assert (root / "blobs" / "sha256" / DIGEST[:2] / DIGEST).read_bytes() == DATA
    assert list((root / "uploads").rglob("*.part")) == []


def test_an_upload_goes_on_where_it_broke_off(server: TestServer) -> None:
    call = caller(server)
    assert state(call, DIGEST, len(DATA)).json == {"complete": False, "offset": 0}
    assert patch(call, DIGEST, DATA[:4000], length=len(DATA)).json == {"complete": False, "offset": 4000}
    assert state(call, DIGEST, len(DATA)).json == {"complete": False, "offset": 4000}
    assert not blob(server, DIGEST).exists()
    final = patch(call, DIGEST, DATA[4000:], length=len(DATA), offset=4000)
    assert final.json == {"complete": True, "offset": len(DATA)}
    assert blob(server, DIGEST).read_bytes() == DATA
    assert state(call, DIGEST, len(DATA)).json == {"complete": True, "offset": len(DATA)}


def test_the_last_chunk_sent_again_is_no_error(server: TestServer) -> None:
    """Its answer may have been lost."""
    call = caller(server)
    patch(call, DIGEST, DATA, length=len(DATA))
    again = patch(call, DIGEST, DATA[4000:], length=len(DATA), offset=4000)
    assert again.json == {"complete": True, "offset": len(DATA)}
    assert parts(server) == []


def test_a_chunk_at_the_wrong_place_is_refused_and_told_the_right_one(server: TestServer) -> None:
    call = caller(server)
    patch(call, DIGEST, DATA[:4000], length=len(DATA))
    before = fingerprint(server.data)
    for offset in (0, 3999, 4001, 8000):
        answer = patch(call, DIGEST, DATA[offset : offset + 10], length=len(DATA), offset=offset)
        assert answer.refused(409, "upload-offset")["offset"] == 4000
    assert fingerprint(server.data) == before


def test_an_empty_blob_is_a_blob(server: TestServer) -> None:
    digest = hashlib.sha256(b"").hexdigest()
    assert patch(caller(server), digest, b"", length=0).json == {"complete": True, "offset": 0}
    assert blob(server, digest).read_bytes() == b""


def test_bytes_of_another_digest_are_dropped_and_free_the_quota(tight: TestServer) -> None:
    call = caller(tight)
    before = fingerprint(tight.data)
    for _ in range(3):  # a claim that stayed behind would fill the quota
        answer = patch(call, DIGEST, b"x" * QUOTA, length=QUOTA)
        answer.refused(422, "blob-mismatch", saying="dropped")
    assert fingerprint(tight.data) == before


@pytest.mark.parametrize(
    "digest", ["a" * 63, "A" * 64, "g" * 64, "..", "%2e%2e%2fferry.db", "a" * 64 + "%00"]
)
def test_a_blob_is_named_by_a_digest_and_nothing_else(digest: str, server: TestServer) -> None:
    before = fingerprint(server.data)
    assert patch(caller(server), digest, b"x", length=1).status in (404, 422)
    assert state(caller(server), digest, 1).status in (404, 422)
    assert fingerprint(server.data) == before


def test_more_bytes_than_announced_are_refused(server: TestServer) -> None:
    before = fingerprint(server.data)
    patch(caller(server), DIGEST, DATA, length=100).refused(422, "refused", saying="of a blob of 100")
    assert fingerprint(server.data) == before


@pytest.mark.parametrize(
    "query", ["length=-1&offset=0", "length=10&offset=-1", "length=x&offset=0", "offset=0"]
)
def test_length_and_offset_are_counts(query: str, server: TestServer) -> None:
    before = fingerprint(server.data)
    path = f"publishers/vision/blobs/{DIGEST}?{query}"
    caller(server)("PATCH", path, raw=b"x").refused(422)
    assert fingerprint(server.data) == before


def test_a_chunk_longer_than_its_bound_is_refused(server: TestServer) -> None:
    before = fingerprint(server.data)
    big = 8 * 1024 * 1024 + 1
    answer = patch(caller(server), DIGEST, bytes(big), length=2 * big)
    answer.refused(413, "body-too-large")
    assert fingerprint(server.data) == before


# --- quota -------------------------------------------------------------------------------------------------


def test_a_blob_beyond_the_quota_is_refused_before_its_first_byte(tight: TestServer) -> None:
    before = fingerprint(tight.data)
    call = caller(tight)
    state(call, DIGEST, QUOTA + 1).refused(507, "quota", saying="ferry serve --quota-mb")
    patch(call, DIGEST, DATA, length=QUOTA + 1).refused(507, "quota", saying="do not fit")
    assert fingerprint(tight.data) == before


def test_two_uploads_side_by_side_share_the_quota(tight: TestServer) -> None:
    """Each fits alone; the second is refused at its first byte, and nothing of it is kept."""
    call = caller(tight)
    first, second = b"1" * 60_000, b"2" * 60_000
    digests = [hashlib.sha256(data).hexdigest() for data in (first, second)]
    assert state(call, digests[0], 60_000).status == state(call, digests[1], 60_000).status == 200
    assert patch(call, digests[0], first[:10], length=60_000).status == 200
    before = fingerprint(tight.data)
    patch(call, digests[1], second[:10], length=60_000).refused(507, "quota")
    assert fingerprint(tight.data) == before
    assert patch(call, digests[0], first[10:], length=60_000, offset=10).json["complete"]
    patch(call, digests[1], second, length=60_000).refused(507, "quota")
    assert not blob(tight, digests[1]).exists()
    assert len(parts(tight)) == 0


def test_racing_uploads_never_pass_the_quota(tight: TestServer) -> None:
    payloads = [bytes([number]) * 30_000 for number in range(8)]

    def send(data: bytes) -> int:
        return patch(caller(tight), hashlib.sha256(data).hexdigest(), data, length=len(data)).status

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(send, payloads))
    assert sorted(statuses) == [200] * 3 + [507] * 5
    stored = [path for path in (tight.data / "blobs").rglob("*") if path.is_file()]
    assert len(stored) == 3
    assert parts(tight) == []


def test_unfinished_uploads_count(tight: TestServer) -> None:
    """Else a disk could be filled with uploads that never end."""
    call = caller(tight)
    for number in range(3):
        assert patch(call, f"{number:064x}", b"x", length=30_000).status == 200
    patch(call, f"{9:064x}", b"x", length=30_000).refused(507, "quota")


def test_the_same_blob_counts_once(tight: TestServer) -> None:
    call = caller(tight)
    data = b"z" * 60_000
    digest = hashlib.sha256(data).hexdigest()
    for _ in range(3):
        assert patch(call, digest, data, length=len(data)).status == 200
        assert state(call, digest, len(data)).json["complete"]


def test_a_stored_blob_cannot_be_reclaimed_under_a_shorter_length(tight: TestServer) -> None:
    """Else a publisher stores a gigabyte and pays for a byte."""
    call = caller(tight)
    data = b"z" * 60_000
    digest = hashlib.sha256(data).hexdigest()
    patch(call, digest, data, length=len(data))
    before = fingerprint(tight.data)
    patch(call, digest, b"z", length=1).refused(422, "refused", saying="60000 bytes")
    state(call, digest, 1).refused(422, "refused")
    assert fingerprint(tight.data) == before
    patch(call, "0" * 64, b"x", length=60_000).refused(507, "quota")


def test_quotas_are_by_publisher_and_a_shared_blob_counts_for_each(tight: TestServer) -> None:
    data = b"z" * 60_000
    digest = hashlib.sha256(data).hexdigest()
    patch(caller(tight), digest, data, length=len(data))
    audio = caller(tight, "audio")
    assert state(audio, digest, len(data), "audio").json == {"complete": True, "offset": 60_000}
    patch(audio, "0" * 64, b"x", length=60_000, publisher="audio").refused(
        507, "quota", saying="audio stores"
    )


# --- publishers apart --------------------------------------------------------------------------------------


def test_one_publishers_garbage_does_not_reach_anothers_upload(server: TestServer) -> None:
    audio = caller(server, "audio")
    patch(audio, DIGEST, b"garbage", length=len(DATA), publisher="audio")
    assert state(caller(server), DIGEST, len(DATA)).json == {"complete": False, "offset": 0}
    assert patch(caller(server), DIGEST, DATA, length=len(DATA)).json["complete"]
    assert blob(server, DIGEST).read_bytes() == DATA
    # And the other one is told that it is done, whatever it had sent.
    assert state(audio, DIGEST, len(DATA), "audio").json["complete"]


def test_another_publishers_token_uploads_nothing(server: TestServer) -> None:
    before = fingerprint(server.data)
    call = caller(server, "audio")
    patch(call, DIGEST, DATA, length=len(DATA)).refused(403, "forbidden", saying="publishes as audio")
    state(call, DIGEST, len(DATA)).refused(403, "forbidden")
    call("GET", "publishers/vision/metadata").refused(403, "forbidden")
    assert fingerprint(server.data) == before


# --- failing disks and crowds ------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [DATA[4000:5000], DATA[4000:]])
def test_a_full_disk_keeps_the_upload_where_it_stood(
    chunk: bytes, server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a chunk that nobody accounts for would poison the rest of the upload."""
    call = caller(server)
    patch(call, DIGEST, DATA[:4000], length=len(DATA))
    before = fingerprint(server.data)

    class Full(FileIO):
        def write(self, data: Any, /) -> int:
            super().write(data[: len(data) // 2])
            raise disk_full()

    with monkeypatch.context() as patched:
        patched.setattr(blobs_module, "FileIO", Full)
        answer = patch(call, DIGEST, chunk, length=len(DATA), offset=4000)
        answer.refused(507, "storage", saying="No space left")
    assert fingerprint(server.data) == before
    final = patch(call, DIGEST, DATA[4000:], length=len(DATA), offset=4000)
    assert final.json == {"complete": True, "offset": len(DATA)}
    assert blob(server, DIGEST).read_bytes() == DATA


def test_a_chunk_that_cannot_be_synced_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderBlobs(tmp_path / "blobs", tmp_path / "uploads")
    store.append("vision", DIGEST, 0, DATA[:4000], len(DATA))

    def fail(_: int) -> None:
        raise disk_full()

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(StorageError):
            store.append("vision", DIGEST, 4000, DATA[4000:], len(DATA))
    assert store.offset("vision", DIGEST) == 4000
    assert store.append("vision", DIGEST, 4000, DATA[4000:], len(DATA)) == len(DATA)


def test_a_crowd_uploading_one_blob_ends_with_the_blob(tmp_path: Path) -> None:
    """Retries overlap with the requests they retry: every byte is written once, or dropped."""
    store = FolderBlobs(tmp_path / "blobs", tmp_path / "uploads")

    def send(_: int) -> None:
        offset = 0
        for _attempt in range(1000):
            try:
                offset = store.append("vision", DIGEST, offset, DATA[offset : offset + 97], len(DATA))
            except UploadOffsetError as error:
                offset = error.offset
            except BlobMismatchError:  # pragma: no cover - the failure this looks for
                raise
            if offset == len(DATA):
                return

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(send, range(6)))
    assert (tmp_path / "blobs" / "sha256" / DIGEST[:2] / DIGEST).read_bytes() == DATA
    assert list((tmp_path / "uploads").rglob("*.part")) == []


def test_what_the_quota_refuses_does_not_depend_on_a_lowered_quota_later(tmp_path: Path) -> None:
    """An operator may lower the quota: what is claimed stays, uploads under way may end."""
    bench = make_bench(tmp_path)
    services = bench.open()
    arguments = {"length_bytes": len(DATA), "data": DATA[:100], "offset": 0}
    publishing.append_blob(services, principal("vision"), "vision", DIGEST, **arguments)  # type: ignore[arg-type]
    low = bench.open(quota_bytes=10)
    arguments = {"length_bytes": len(DATA), "data": DATA[100:], "offset": 100}
    upload = publishing.append_blob(low, principal("vision"), "vision", DIGEST, **arguments)  # type: ignore[arg-type]
    assert upload.complete
