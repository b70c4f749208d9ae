from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_contract.documents import (
    MAX_DEPTH,
    Reader,
    canonical_json,
    format_instant,
    read_document,
    reader_of,
)
from ota_contract.errors import ContractError, FormatError, UnknownFormatError
from tests.ota_contract.contract_strategies import instants, json_values


def read(text: str | bytes, *, format_: str | None = None, max_bytes: int = 10_000) -> Reader:
    data = text.encode() if isinstance(text, str) else text
    return read_document(data, what="thing", format_=format_, max_bytes=max_bytes)


def field(value: Any) -> Reader:
    return reader_of({"key": value}, what="thing")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@given(json_values())
def test_canonical_json_is_read_back_and_written_the_same(value: Any) -> None:
    data = canonical_json(value)
    assert json.loads(data) == value
    assert canonical_json(json.loads(data)) == data


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values(), max_size=5),
    st.randoms(),
)
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: dict[str, Any], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert canonical_json(dict(items)) == canonical_json(value)


def test_canonical_json_has_no_spaces_and_keeps_letters_as_they_are() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "ü"}) == '{"a":"ü","b":[1,2.5,null]}'.encode()


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), -float("inf"), {1, 2}, b"bytes", {"a": object()}, "\ud800", {"\udfff": 1}],
)
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(FormatError, match="canonical JSON"):
        canonical_json(value)


def test_a_value_too_deep_to_write_is_refused_and_not_a_crash() -> None:
    value: Any = 0
    for _ in range(100_000):
        value = [value]
    with pytest.raises(FormatError):
        canonical_json(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "1",
        "null",
        '"text"',
        "{",
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": -Infinity}',
        '{"a": 1, "a": 1}',
        '{"b": {"a": 1, "a": 2}}',
        "\ufeff{}",
        "{} {}",
        '{"a": 01}',
        "{'a': 1}",
        '{"a": ' + "1" * 5000 + "}",
    ],
)
def test_what_is_not_one_json_object_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="thing"):
        read(text)


@pytest.mark.parametrize("data", [b"\xff\xfe{}", b'{"a": "\xc0\xaf"}', b'{"a": "\xed\xa0\x80"}'])
def test_what_is_not_utf8_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        read(data)


def test_bytes_beyond_the_bound_are_not_parsed() -> None:
    assert read('{"a": 1}', max_bytes=8).integer("a") == 1
    with pytest.raises(FormatError, match="8 bytes, at most 7"):
        read('{"a": 1}', max_bytes=7)


def test_depth_is_bounded() -> None:
    def nested(depth: int) -> str:
        return '{"a":' * depth + "1" + "}" * depth

    read(nested(MAX_DEPTH - 1))
    with pytest.raises(FormatError, match="deeper"):
        read(nested(MAX_DEPTH + 1))
    with pytest.raises(FormatError):
        read(nested(100_000), max_bytes=10**6)
    with pytest.raises(FormatError):
        read('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", max_bytes=10**6)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_raise_anything_else(data: bytes) -> None:
    with contextlib.suppress(ContractError):
        read(data)


def test_another_format_is_refused_and_told_from_a_malformed_one() -> None:
    read('{"format": "a/1"}', format_="a/1")
    with pytest.raises(UnknownFormatError, match="update Ferry"):
        read('{"format": "a/2"}', format_="a/1")
    for text in ("{}", '{"format": 1}', '{"format": null}', '{"format": "' + "x" * 65 + '"}'):
        with pytest.raises(FormatError) as refusal:
            read(text, format_="a/1")
        assert not isinstance(refusal.value, UnknownFormatError)


def test_unknown_keys_are_ignored() -> None:
    assert read('{"format": "a/1", "a": 1, "of a later version": {}}', format_="a/1").integer("a") == 1


@pytest.mark.parametrize(
    "key", ["text", "integer", "number", "boolean", "sha256", "instant", "object", "raw"]
)
def test_a_missing_value_is_named(key: str) -> None:
    with pytest.raises(FormatError, match=r"thing\.absent: missing"):
        getattr(field(1), key)("absent")


def test_null_reads_as_absent() -> None:
    reader = field(None)
    assert not reader.has("key")
    assert reader.text("key", default="d") == "d"
    assert reader.integer("key", default=3) == 3
    assert reader.optional("key", lambda inner: inner.text("x")) is None
    assert reader.texts("key", max_items=1) == ()
    assert reader.entries("key", max_items=1) == {}
    assert reader.member("key", Colour, default=Colour.RED) is Colour.RED
    assert reader.raw("key") is None


def test_texts_are_bounded() -> None:
    assert field("ab").text("key", max_length=2) == "ab"
    with pytest.raises(FormatError, match="3 characters, at most 2"):
        field("abc").text("key", max_length=2)
    with pytest.raises(FormatError, match="unexpected number"):
        field(1).text("key")


@pytest.mark.parametrize(
    "character",
    ["\0", "\n", "\r", "\t", "\x1b", "\x7f", "\x80", "\x9b", "\u2028", "\u2029", "\ud800"],
)
def test_characters_that_move_a_cursor_or_cannot_be_written_are_refused(character: str) -> None:
    with pytest.raises(FormatError, match="control characters"):
        field(f"a{character}b").text("key")
    with pytest.raises(FormatError, match="keys are printable"):
        field({f"a{character}b": 1}).entries("key", max_items=1)


def test_an_escaped_lone_surrogate_is_refused() -> None:
    """JSON can spell half a character; passed on, it fails wherever it is first written."""
    with pytest.raises(FormatError):
        read(r'{"a": "\ud800"}').text("a")
    assert read(r'{"a": "\ud83d\ude00"}').text("a") == "😀"


@pytest.mark.parametrize("value", [True, 1.0, "1", [], {}])
def test_only_integers_are_integers(value: object) -> None:
    with pytest.raises(FormatError):
        field(value).integer("key")


def test_integers_are_bounded() -> None:
    assert field(2**63 - 1).integer("key") == 2**63 - 1
    for value in (2**63, -1, 10**100):
        with pytest.raises(FormatError, match="outside"):
            field(value).integer("key")
    with pytest.raises(FormatError, match="11 is outside 0…10"):
        field(11).integer("key", high=10)


@pytest.mark.parametrize("text", ["true", '"1"', "1e999", "-1e999", "1" + "0" * 400, "[]"])
def test_only_finite_numbers_are_numbers(text: str) -> None:
    with pytest.raises(FormatError):
        read(f'{{"a": {text}}}').number("a")


def test_numbers_may_be_integers() -> None:
    assert field(2).number("key") == 2.0
    assert field(-0.5).number("key") == -0.5
    assert field(None).number("key", default=1.5) == 1.5


def test_booleans_are_not_numbers() -> None:
    assert field(value=False).boolean("key") is False
    for value in (0, 1, "true"):
        with pytest.raises(FormatError):
            field(value).boolean("key")


@pytest.mark.parametrize(
    "value", ["", "a" * 63, "A" * 64, "g" * 64, "a" * 65, "a" * 63 + "\n", "\uff10" * 64]
)
def test_only_lower_case_sha256_is_a_digest(value: str) -> None:
    with pytest.raises(FormatError):
        field(value).sha256("key")


@given(instants())
def test_instants_are_read_back(instant: datetime) -> None:
    assert field(format_instant(instant)).instant("key") == instant


def test_instants_are_written_in_utc_and_whole_seconds() -> None:
    moment = datetime.fromisoformat("2026-01-02T03:04:05.678+02:00")
    assert format_instant(moment) == "2026-01-02T01:04:05Z"
    assert field("2026-01-02T01:04:05Z").instant("key").tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-02",
        "2026-01-02T03:04:05",
        "2026-01-02T03:04:05+00:00",
        "2026-01-02 03:04:05Z",
        "2026-13-02T03:04:05Z",
        "2026-02-30T03:04:05Z",
        "2026-01-02T24:00:01Z",
        "0000-01-02T03:04:05Z",
        "٢٠٢٦-01-02T03:04:05Z",
        "2026-01-02T03:04:05.1Z",
    ],
)
def test_other_instants_are_refused(value: str) -> None:
    with pytest.raises(FormatError, match=r"thing\.key"):
        field(value).instant("key")


def test_members_are_read_by_value_and_the_known_ones_named() -> None:
    assert field("blue").member("key", Colour) is Colour.BLUE
    with pytest.raises(FormatError, match="'green' is none of red, blue"):
        field("green").member("key", Colour)


def test_arrays_are_bounded_and_their_places_named() -> None:
    reader = field([{"a": 1}, {"a": "x"}])
    items = list(reader.objects("key", max_items=2))
    assert items[0].integer("a") == 1
    with pytest.raises(FormatError, match=r"thing\.key\[1\]\.a"):
        items[1].integer("a")
    with pytest.raises(FormatError, match="2 items"):
        list(reader.objects("key", max_items=1))
    with pytest.raises(FormatError, match="2 items"):
        list(reader.objects("key", max_items=9, min_items=3))
    with pytest.raises(FormatError, match="expected an object, got number"):
        list(field([1]).objects("key", max_items=1))
    with pytest.raises(FormatError):
        field([1, "x"]).integers("key", max_items=2, low=0, high=9)
    with pytest.raises(FormatError):
        field(["x", None]).texts("key", max_items=2)


def test_tables_are_bounded_in_entries_and_keys() -> None:
    table = field({"a": 1, "b": 2}).entries("key", max_items=2)
    assert {name: value.integer("value") for name, value in table.items()} == {"a": 1, "b": 2}
    with pytest.raises(FormatError, match="2 entries, at most 1"):
        field({"a": 1, "b": 2}).entries("key", max_items=1)
    with pytest.raises(FormatError, match="keys are printable"):
        field({"a" * 257: 1}).entries("key", max_items=1)


def test_decoded_values_are_read_under_the_same_bounds() -> None:
    values: list[Any] = [None, [], "text", 1]
    for value in values:
        with pytest.raises(FormatError, match="expected an object"):
            reader_of(value, what="body")
    deep: Any = {}
    for _ in range(MAX_DEPTH + 1):
        deep = {"a": deep}
    with pytest.raises(FormatError, match="deeper"):
        reader_of(deep, what="body")
