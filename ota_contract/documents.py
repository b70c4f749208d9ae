"""Bounded reading and canonical writing of the JSON documents that cross a trust boundary.

Every parser of the contract starts with `read_document` and asks a `Reader` for typed, bounded
fields; nothing past the parser ever sees a bare dictionary. Unknown keys are ignored, because a newer
writer may add them; an unknown `format` is refused, because its meaning may have changed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NoReturn, TypeVar

from ota_contract.errors import FormatError, UnknownFormatError

__all__ = [
    "MAX_DEPTH",
    "Reader",
    "canonical_json",
    "format_instant",
    "read_document",
    "reader_of",
]

MAX_DEPTH = 16
"""Deepest nesting any of our documents needs is 9; the rest is room for newer writers."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
# C0 and C1 controls and the two separators move a terminal's cursor or end a line; a lone surrogate
# cannot be written as UTF-8, so it would fail far from here.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_MAX_KEY = 256
_MAX_INTEGER = 2**63 - 1

_E = TypeVar("_E", bound=Enum)
_T = TypeVar("_T")


def canonical_json(value: object) -> bytes:
    """Serialise to the one byte string equal values share: sorted keys, no spaces, UTF-8.

    Raises:
        FormatError: The value holds NaN, an infinity, or something JSON cannot say.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:  # a lone surrogate is a ValueError
        raise FormatError(f"not expressible as canonical JSON: {error}") from error


def format_instant(instant: datetime) -> str:
    """Write an aware datetime as `YYYY-MM-DDTHH:MM:SSZ`, whole seconds, as TUF does."""
    return instant.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def read_document(data: bytes, *, what: str, format_: str | None, max_bytes: int) -> Reader:
    """Parse untrusted bytes into a `Reader` over one JSON object.

    Args:
        data: Untrusted bytes.
        what: The document's name in error messages, such as "release manifest".
        format_: The only accepted value of the `format` key; None where the document has none.
        max_bytes: Longer input is refused before it is parsed.

    Raises:
        UnknownFormatError: The `format` key names another format.
        FormatError: Not JSON, not an object, too long, too deep, or with a key twice.
    """
    if len(data) > max_bytes:
        raise FormatError(f"{what}: {len(data)} bytes, at most {max_bytes} are read")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object_without_duplicates,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what}: not JSON: {error}") from error
    return reader_of(value, what=what, format_=format_)


def reader_of(value: object, *, what: str, format_: str | None = None) -> Reader:
    """Wrap an already decoded JSON value (a request body, TUF `custom`) under the same bounds."""
    if not isinstance(value, Mapping):
        raise FormatError(f"{what}: expected an object, got {_kind(value)}")
    _check_depth(value, what)
    reader = Reader(value, what)
    if format_ is not None:
        found = reader.text("format", max_length=64)
        if found != format_:
            raise UnknownFormatError(f"{what}: format {found!r} is not {format_!r}; update Ferry")
    return reader


class Reader:
    """Typed, bounded access to one JSON object; errors name the exact place."""

    __slots__ = ("_value", "_where")

    def __init__(self, value: Mapping[str, Any], where: str) -> None:
        self._value = value
        self._where = where

    @property
    def where(self) -> str:
        """The place of this object in its document, for error messages."""
        return self._where

    def has(self, key: str) -> bool:
        """Whether the key is present with a value other than null."""
        return self._value.get(key) is not None

    def text(self, key: str, *, max_length: int = 256, default: str | None = None) -> str:
        """A string of at most `max_length` characters without control characters or lone surrogates."""
        value: str = self._take(key, str, default)
        if len(value) > max_length:
            self.fail(key, f"{len(value)} characters, at most {max_length} allowed")
        if _UNPRINTABLE.search(value):
            self.fail(key, "control characters are not allowed")
        return value

    def integer(self, key: str, *, low: int = 0, high: int = _MAX_INTEGER, default: int | None = None) -> int:
        """An integer in `low`…`high`; booleans and floats are refused."""
        value: int = self._take(key, int, default)
        if isinstance(value, bool):
            self.fail(key, "expected an integer, got a boolean")
        if not low <= value <= high:
            # Python does not spell integers of more than 4300 digits, and TOML can hold them.
            self.fail(key, f"{value if abs(value) < 10**40 else 'it'} is outside {low}…{high}")
        return value

    def number(self, key: str, *, default: float | None = None) -> float:
        """A finite number."""
        value = self._take(key, (int, float), default)
        try:
            number = float(value)
        except OverflowError:  # JSON's integers have no end, a double has
            number = math.inf
        if isinstance(value, bool) or not math.isfinite(number):
            self.fail(key, "expected a finite number")
        return number

    def boolean(self, key: str, *, default: bool | None = None) -> bool:
        """True or false."""
        value: bool = self._take(key, bool, default)
        return value

    def sha256(self, key: str) -> str:
        """A lower-case hexadecimal SHA-256 digest."""
        value = self.text(key, max_length=64)
        if not _SHA256.fullmatch(value):
            self.fail(key, "expected 64 lower-case hexadecimal digits")
        return value

    def instant(self, key: str) -> datetime:
        """An aware UTC datetime written `YYYY-MM-DDTHH:MM:SSZ`."""
        value = self.text(key, max_length=20)
        try:
            if not _INSTANT.fullmatch(value):
                raise ValueError(value)  # noqa: TRY301 - one message for shape and calendar
            return datetime.fromisoformat(value)
        except ValueError as error:
            message = f"{self._where}.{key}: expected YYYY-MM-DDTHH:MM:SSZ, got {value!r}"
            raise FormatError(message) from error

    def member(self, key: str, kind: type[_E], *, default: _E | None = None) -> _E:
        """A member of an enum, by value."""
        if default is not None and not self.has(key):
            return default
        value = self.text(key)
        try:
            return kind(value)
        except ValueError as error:
            known = ", ".join(str(member.value) for member in kind)
            raise FormatError(f"{self._where}.{key}: {value!r} is none of {known}") from error

    def object(self, key: str) -> Reader:
        """A nested object."""
        return Reader(self._take(key, Mapping, None), f"{self._where}.{key}")

    def optional(self, key: str, parse: Callable[[Reader], _T]) -> _T | None:
        """Parse a nested object, or None where the key is absent or null."""
        return parse(self.object(key)) if self.has(key) else None

    def objects(self, key: str, *, max_items: int, min_items: int = 0) -> Iterator[Reader]:
        """The objects of an array of bounded length."""
        for index, item in enumerate(self._array(key, max_items, min_items)):
            where = f"{self._where}.{key}[{index}]"
            if not isinstance(item, Mapping):
                raise FormatError(f"{where}: expected an object, got {_kind(item)}")
            yield Reader(item, where)

    def texts(self, key: str, *, max_items: int, max_length: int = 256) -> tuple[str, ...]:
        """An array of strings; absent reads as empty."""
        if not self.has(key):
            return ()
        items = self._array(key, max_items, 0)
        return tuple(
            Reader({key: item}, f"{self._where}[{index}]").text(key, max_length=max_length)
            for index, item in enumerate(items)
        )

    def integers(self, key: str, *, max_items: int, low: int, high: int) -> tuple[int, ...]:
        """An array of integers."""
        items = self._array(key, max_items, 0)
        return tuple(
            Reader({key: item}, f"{self._where}[{index}]").integer(key, low=low, high=high)
            for index, item in enumerate(items)
        )

    def numbers(self, key: str, *, max_items: int) -> tuple[float, ...]:
        """One finite number, or an array of at least one."""
        if not isinstance(self._value.get(key), list):
            return (self.number(key),)
        items = self._array(key, max_items, 1)
        return tuple(
            Reader({key: item}, f"{self._where}[{index}]").number(key) for index, item in enumerate(items)
        )

    def entries(self, key: str, *, max_items: int) -> dict[str, Reader]:
        """An object used as a table: its keys, each with a reader that holds its value as `value`."""
        if not self.has(key):
            return {}
        table = self._take(key, Mapping, None)
        if len(table) > max_items:
            self.fail(key, f"{len(table)} entries, at most {max_items} allowed")
        if any(len(name) > _MAX_KEY or _UNPRINTABLE.search(name) for name in table):
            self.fail(key, f"its keys are printable and at most {_MAX_KEY} characters long")
        return {
            name: Reader({"value": value}, f"{self._where}.{key}.{name}") for name, value in table.items()
        }

    def raw(self, key: str) -> Any:  # noqa: ANN401 - a JSON value the caller parses itself
        """The undecoded JSON value under a key, for a field with a grammar of its own."""
        if key not in self._value:
            self.fail(key, "missing")
        return self._value[key]

    def fail(self, key: str, message: str) -> NoReturn:
        """Refuse the document because of the value at `key`."""
        raise FormatError(f"{self._where}.{key}: {message}")

    def _array(self, key: str, max_items: int, min_items: int) -> list[Any]:
        items: list[Any] = self._take(key, list, None)
        if not min_items <= len(items) <= max_items:
            self.fail(key, f"{len(items)} items, expected {min_items}…{max_items}")
        return items

    def _take(self, key: str, kind: Any, default: Any) -> Any:  # noqa: ANN401
        value = self._value.get(key)
        if value is None:
            if default is None:
                self.fail(key, "missing")
            return default
        if not isinstance(value, kind):
            self.fail(key, f"unexpected {_kind(value)}")
        return value


def _check_depth(value: object, what: str) -> None:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, (Mapping, list))
            for child in (item.values() if isinstance(item, Mapping) else item)
        ]
        if not level:
            return
    raise FormatError(f"{what}: nested deeper than {MAX_DEPTH}")


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two parsers may pick different twins of a duplicated key: what was checked is not what runs.
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return value


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _kind(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
