"""Pieces find the damaged part of a file, and deltas name what they lead to; neither is believed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_contract.documents import canonical_json, reader_of
from ota_contract.errors import FormatError
from ota_contract.manifest import Delta, File, FileRole, dump_release, parse_release
from ota_contract.package_files import (
    LEAST_LENGTH_BYTES,
    file_from,
    file_to_json,
    piece_length_bytes,
    pieces_of,
)
from tests.ota_contract.release_samples import sample_json, sample_release


@given(length=st.integers(LEAST_LENGTH_BYTES, 2**40))
def test_a_piece_is_less_than_one_percent_of_its_file(length: int) -> None:
    piece = piece_length_bytes(length)
    assert piece * 100 < length
    assert -(-length // piece) <= 256
    assert piece & (piece - 1) == 0


@given(
    length=st.integers(LEAST_LENGTH_BYTES, LEAST_LENGTH_BYTES * 3),
    cut=st.integers(1, 100_000),
    at=st.floats(0, 1, exclude_max=True),
)
def test_one_flipped_bit_is_found_in_its_piece_and_nowhere_else(length: int, cut: int, at: float) -> None:
    data = hashlib.sha256(str(length).encode()).digest() * (length // 32 + 1)
    data = data[:length]
    pieces = pieces_of((data[i : i + cut] for i in range(0, length, cut)), length)
    assert pieces is not None
    damaged = bytearray(data)
    place = int(at * length)
    damaged[place] ^= 1
    size = pieces.length_bytes
    wrong = [
        index
        for index in range(-(-length // size))
        if not pieces.agrees(index, hashlib.sha256(damaged[index * size : (index + 1) * size]).digest())
    ]
    assert wrong == [place // size]


def test_a_small_file_has_no_pieces() -> None:
    assert pieces_of((b"x",), 1) is None
    assert pieces_of((b"x" * LEAST_LENGTH_BYTES,), LEAST_LENGTH_BYTES) is not None


def test_a_piece_beyond_the_last_never_agrees() -> None:
    pieces = pieces_of((b"x" * LEAST_LENGTH_BYTES,), LEAST_LENGTH_BYTES)
    assert pieces is not None
    assert not pieces.agrees(10_000, hashlib.sha256(b"x").digest())


@given(length=st.integers(LEAST_LENGTH_BYTES, LEAST_LENGTH_BYTES + 9000))
def test_a_file_with_pieces_is_read_back(length: int) -> None:
    file = File(
        path="a/b",
        length_bytes=length,
        sha256="0" * 64,
        role=FileRole.PART,
        pieces=pieces_of((bytes(length),), length),
    )
    assert file_from(reader_of(file_to_json(file), what="file")) == file


@pytest.mark.parametrize(
    "pieces",
    [
        {"length": 4096, "digests": "AAAA"},
        {"length": 4095, "digests": "AAAAAAAAAAA="},
        {"length": 2**40, "digests": "%%%"},
        {"length": 2**40, "digests": "ü"},
        {"length": 2**40},
        {"digests": ""},
        {"length": 2**40, "digests": "A" * 9000},
        [],
    ],
)
def test_pieces_that_do_not_cover_their_file_are_refused(pieces: Any) -> None:
    content = {"path": "a", "length": 1_000_000, "sha256": "0" * 64, "role": "part", "pieces": pieces}
    with pytest.raises(FormatError):
        file_from(reader_of(content, what="file"))


def _delta(**changes: Any) -> dict[str, Any]:
    file = {"path": "deltas/a", "length": 100, "sha256": "5" * 64, "role": "delta"}
    return {"file": {**file, **changes.pop("file", {})}, "base": "6" * 64, "target": "1" * 64, **changes}


def test_a_release_with_deltas_is_read_back() -> None:
    delta = Delta(
        file=File(path="deltas/a", length_bytes=100, sha256="5" * 64, role=FileRole.DELTA),
        base_sha256="6" * 64,
        target_sha256="1" * 64,
    )
    release = replace(sample_release(), deltas=(delta,))
    assert parse_release(dump_release(release)) == release
    assert delta.file in list(release.files())


@pytest.mark.parametrize(
    ("deltas", "why"),
    [
        ([_delta(target="7" * 64)], "the release does not have"),
        ([_delta(file={"length": 1234})], "not smaller"),
        ([_delta(file={"role": "part"})], "role is not delta"),
        ([_delta(), _delta(file={"path": "deltas/b"})], "from the same base"),
        ([_delta(file={"path": "golden.json"})], "two contents"),
        ([_delta(file={"path": "../a"})], "path"),
        ([_delta(base="x")], "64 lower-case"),
        ([_delta()] * 257, "items, expected"),
    ],
)
def test_a_delta_that_leads_nowhere_is_refused(deltas: list[Any], why: str) -> None:
    manifest = sample_json()
    manifest["deltas"] = deltas
    with pytest.raises(FormatError, match=why):
        parse_release(canonical_json(manifest))


def test_a_variant_is_made_of_no_delta() -> None:
    def with_role(role: str) -> Callable[[], object]:
        manifest = sample_json()
        extra = {"path": "x", "length": 1, "sha256": "8" * 64, "role": role}
        manifest["variants"][0]["files"].append(extra)
        return lambda: parse_release(canonical_json(manifest))

    with_role("part")()
    with pytest.raises(FormatError, match="parts beside it"):
        with_role("delta")()
