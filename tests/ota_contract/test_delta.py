"""A delta makes the file it was written for, and whatever else comes is refused within its bounds."""

from __future__ import annotations

import io
import lzma
import random
import re
import struct
import tracemalloc
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_contract.delta import BLOCK_BYTES, MAGIC, MAX_INSTRUCTIONS, WIDTHS, apply_delta
from ota_contract.errors import DeltaError
from tests.support.deltas import Copy, Diff, Insert, Step, number, packed, signed, written

LIMIT = 100_000
BASE = random.Random(7).randbytes(4096)  # noqa: S311 - the same in every run


class Bounded(io.BytesIO):
    """Fails the test at the first byte over the limit, not after it."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        assert self.tell() + len(data) <= self.limit
        assert len(data) <= BLOCK_BYTES
        return super().write(data)


def made(base: bytes, delta: bytes, limit: int = LIMIT) -> bytes:
    out = Bounded(limit)
    length = apply_delta(io.BytesIO(base), io.BytesIO(delta), out, max_bytes=limit)
    assert length == len(out.getvalue())
    return out.getvalue()


@st.composite
def plans(draw: st.DrawFn) -> tuple[bytes, list[Step], bytes]:
    """A base, steps, and what they make of it."""
    base = draw(st.binary(min_size=8, max_size=400))
    steps: list[Step] = []
    target = b""
    for _ in range(draw(st.integers(0, 8))):
        kind, width = draw(st.sampled_from("cid")), draw(st.sampled_from(WIDTHS))
        if kind == "i":
            data = draw(st.binary(min_size=1, max_size=40)) * width
            steps.append(Insert(data, width))
            target += data
            continue
        length = draw(st.integers(1, len(base) // width)) * width
        offset = draw(st.integers(0, len(base) - length))
        old = base[offset : offset + length]
        if kind == "c":
            steps.append(Copy(offset, length))
            target += old
        else:
            new = draw(st.binary(min_size=length, max_size=length))
            steps.append(Diff(offset, old, new, width))
            target += new
    return base, steps, target


@given(plan=plans())
def test_a_delta_makes_what_its_steps_say(plan: tuple[bytes, list[Step], bytes]) -> None:
    base, steps, target = plan
    assert made(base, written(steps)) == target


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("extra", [-8, 0, 8])
def test_blocks_have_planes_of_their_own(width: int, extra: int) -> None:
    """The last block is shorter; lengths around the edge of one."""
    chance = random.Random(width)  # noqa: S311
    length = BLOCK_BYTES + extra
    base, target = chance.randbytes(length), chance.randbytes(length)
    delta = written([Diff(0, base, target, width), Insert(base, width), Copy(0, length)])
    assert made(base, delta, 3 * length) == target + base + base


@pytest.mark.parametrize("width", WIDTHS)
def test_differences_wrap_around(width: int) -> None:
    """From the least value to the greatest and back, and across the sign, beside elements that stay."""
    ends = [0, 1, 2 ** (8 * width - 1) - 1, 2 ** (8 * width - 1), 2 ** (8 * width) - 1]
    pairs = [(old, new) for old in ends for new in ends]
    base, target = (b"".join(pair[i].to_bytes(width, "little") for pair in pairs) for i in (0, 1))
    assert made(base, written([Diff(0, base, target, width)])) == target


def test_the_example_of_the_format_page() -> None:
    """[1.0, 2.5] from [1.0, 2.0], as FP32: the first is copied, the second changed."""
    page = (Path(__file__).parents[2] / "docs" / "release-format.md").read_text(encoding="utf-8")
    example = re.search(r"Its stream, unpacked, is\n\n```\n([0-9a-f ]+)\n```", page)
    assert example is not None
    assert made(struct.pack("<2f", 1, 2), packed(bytes.fromhex(example[1]))) == struct.pack("<2f", 1, 2.5)


REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "does not begin with ferry.delta/1"),
    "another format": (b"ferry.delta/2\n" + packed(b"\0")[len(MAGIC) :], "does not begin with ferry.delta/1"),
    "the magic alone": (MAGIC, "cut short"),
    "no xz": (MAGIC + b"x" * 100, "cannot be read"),
    "no end": (packed(b""), "in the middle of an instruction"),
    "no such instruction": (packed(b"\x01"), "0x01"),
    "no such kind": (packed(b"\x40"), "0x40"),
    "no such width": (packed(b"\x24\x20" + b"x" * 32), "0x24"),
    "a copy with a width": (packed(b"\x11\x00\x02\x00"), "0x11"),
    "no length": (packed(b"\x10\x00\x00\x00"), "an instruction of 0 bytes"),
    "half an element": (packed(b"\x21\x03xxx\x00"), "3 bytes, in elements of 2"),
    "less data than told": (packed(b"\x20\x09short"), "in the middle of an instruction"),
    "a number without end": (packed(b"\x20" + b"\xff" * 20), "a number of more than"),
    "before the base": (packed(b"\x10" + signed(-1) + b"\x01\x00"), "outside its base"),
    "beyond the base": (packed(b"\x10" + signed(1) + number(4096) + b"\x00"), "outside its base"),
    "far beyond the base": (packed(b"\x10" + signed(2**61) + b"\x01\x00"), "outside its base"),
    "a difference beyond it": (packed(b"\x30" + signed(4096) + b"\x01x\x00"), "outside its base"),
    "instructions after the end": (packed(b"\x00\x20\x01x\x00"), "something follows"),
    "bytes after the end": (packed(b"\x00") + b"x", "something follows"),
    "a second stream": (packed(b"\x00") + packed(b"\x00")[len(MAGIC) :], "something follows"),
    "one byte too many": (
        packed(b"\x20" + number(LIMIT + 1) + bytes(LIMIT + 1) + b"\x00"),
        "more than 100000",
    ),
    "a bomb of one instruction": (packed(b"\x20" + number(2**60) + bytes(2**22)), "more than 100000"),
    "a bomb of copies": (packed((b"\x10" + signed(-4096) + number(4096)) * 10_000), "outside its base"),
    "a bomb of copies that fit": (
        packed(b"\x10\x00" + number(4096) + (b"\x10" + signed(-4096) + number(4096)) * 5000),
        "more than 100000",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_malformed_delta_is_refused(name: str) -> None:
    delta, says = REFUSED[name]
    with pytest.raises(DeltaError, match=says):
        made(BASE, delta)


def test_an_end_that_never_comes_is_not_waited_for() -> None:
    """As many instructions as are allowed, a byte each, and then one more."""
    plain = b"\x20\x01x" * MAX_INSTRUCTIONS
    with pytest.raises(DeltaError, match="instructions"):
        made(b"", packed(plain + b"\x00"), MAX_INSTRUCTIONS + 1)


def test_a_dictionary_larger_than_a_device_has_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 26}]
    delta = MAGIC + lzma.compress(b"\x20\x01x\x00", check=lzma.CHECK_NONE, filters=filters)
    with pytest.raises(DeltaError, match="cannot be read"):
        made(b"", delta)


def test_a_base_that_shrinks_meanwhile_is_an_error_of_the_delta() -> None:
    class Shrinking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(size)[:-1]

    delta = written([Copy(0, 100)])
    with pytest.raises(DeltaError, match="shorter"):
        apply_delta(Shrinking(BASE), io.BytesIO(delta), io.BytesIO(), max_bytes=100)


GOOD = written([Copy(5, 2000), Diff(0, BASE[:512], BASE[1024:1536], 4), Insert(BASE[::-1], 2), Copy(0, 7)])


@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused_or_applied_within_the_bound(data: bytes) -> None:
    for delta in (data, MAGIC + data, packed(data)):
        refused_or_bounded(delta)


@given(at=st.integers(0, len(GOOD) - 1), value=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_delta_is_refused_or_applied_within_the_bound(at: int, value: int, *, cut: bool) -> None:
    damaged = bytearray(GOOD)
    damaged[at] ^= value
    refused_or_bounded(bytes(damaged[:at] if cut else damaged))


@given(
    at=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_damaged_instructions_are_refused_or_applied_within_the_bound(at: list[tuple[int, int]]) -> None:
    """Below the compression, where damage is not noise but another program."""
    plain = bytearray(lzma.decompress(GOOD[len(MAGIC) :]))
    for place, value in at:
        plain[place % len(plain)] = value
    refused_or_bounded(packed(bytes(plain)))


def refused_or_bounded(delta: bytes) -> None:
    try:
        made(BASE, delta, 20_000)
    except DeltaError as error:
        assert str(error)  # noqa: PT017 - any of its sentences will do


@given(cut=st.integers(0, len(GOOD) - 1))
def test_a_delta_cut_anywhere_is_refused(cut: int) -> None:
    with pytest.raises(DeltaError):
        made(BASE, GOOD[:cut], 20_000)


def test_memory_does_not_grow_with_the_files() -> None:
    """Forty megabytes from forty megabytes, in less than four."""
    length = 40 * 1024 * 1024
    delta = packed(
        b"\x32\x00" + number(length // 2) + bytes(length // 2) + b"\x10\x00" + number(length // 2) + b"\x00"
    )

    class Zeros(io.RawIOBase):
        at = 0

        def seek(self, offset: int, whence: int = 0, /) -> int:
            self.at = length if whence == io.SEEK_END else offset
            return self.at

        def read(self, size: int = -1, /) -> bytes:
            self.at += size
            return bytes(size)

    class Counting:
        total = 0

        def write(self, data: bytes, /) -> None:
            self.total += len(data)

    out = Counting()
    tracemalloc.start()
    try:
        apply_delta(cast(BinaryIO, Zeros()), io.BytesIO(delta), out, max_bytes=length)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert out.total == length
    assert peak < 4 * 1024 * 1024
