"""Strict, typed reading of the tables of a TOML file.

A recipe is written by hand: a misspelt key must not be taken for an absent one. An unknown key is
therefore an error that lists the known ones, unlike in documents read from other versions of Ferry.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from converter.errors import RecipeError

__all__ = ["Table", "read_toml"]

_MAX_BYTES = 1024 * 1024
_MAX_ITEMS = 10_000

_E = TypeVar("_E", bound=Enum)


def read_toml(
    path: Path, *, shown: str, keys: tuple[str, ...], values: Mapping[str, Any] | None = None
) -> tuple[Table, bytes]:
    """The root table of a file, and the file's bytes.

    Args:
        path: The file.
        shown: How error messages name it.
        keys: Every key the root may have.
        values: What it holds, where there is no file; its bytes are then those of JSON.

    Raises:
        RecipeError: No such file, not TOML, or an unknown key.
    """
    if values is not None:
        try:
            text = json.dumps(values, sort_keys=True)
        except (TypeError, ValueError) as error:
            raise RecipeError(f"{shown}: holds what no recipe can: {error}") from error
        return Table(json.loads(text), shown, "", keys), text.encode()
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{shown}: {error.strerror or error}") from error
    if len(data) > _MAX_BYTES:
        raise RecipeError(f"{shown}: longer than {_MAX_BYTES} bytes, which no recipe is")
    try:
        value = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{shown}: not TOML: {error}") from error
    return Table(value, shown, "", keys), data


class Table:
    """One table; errors name file, table and key."""

    def __init__(self, value: Mapping[str, Any], file: str, name: str, keys: tuple[str, ...]) -> None:
        """Refuse the table if it has a key that is not among `keys`."""
        self._value = value
        self._file = file
        self._name = name
        for key in value:
            if key not in keys:
                raise RecipeError(f"{self._place(key)}: unknown key; known are {', '.join(keys)}")

    @property
    def place(self) -> str:
        """File and table, as error messages name them."""
        return f"{self._file}: {self._name}" if self._name else self._file

    def values(self) -> dict[str, Any]:
        """The table as it stands in the file, unparsed, for a grammar that others own."""
        return dict(self._value)

    def has(self, key: str) -> bool:
        """Whether the key is present."""
        return key in self._value

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        value: str = self._take(key, str, default, "text")
        return value

    def truth(self, key: str) -> bool:
        """True or false."""
        value = self._value.get(key)
        if not isinstance(value, bool):
            self.fail(key, "expected true or false")
        return value

    def integer(self, key: str, default: int | None = None, *, low: int = 0) -> int:
        """An integer of at least `low`."""
        value: int = self._take(key, int, default, "a whole number")
        if value < low:
            self.fail(key, f"{value} is below {low}")
        return value

    def number(self, key: str, default: float | None = None, *, within: tuple[float, float]) -> float:
        """A number within bounds, both included."""
        value = float(self._take(key, (int, float), default, "a number"))
        if not (math.isfinite(value) and within[0] <= value <= within[1]):
            self.fail(key, f"{value} is outside {within[0]}…{within[1]}")
        return value

    def member(self, key: str, kind: type[_E], default: _E | None = None) -> _E:
        """A member of an enum, by value."""
        if default is not None and not self.has(key):
            return default
        value = self.text(key)
        known = {str(member.value): member for member in kind}
        if value not in known:
            self.fail(key, f"{value!r} is none of {', '.join(known)}")
        return known[value]

    def texts(self, key: str) -> tuple[str, ...]:
        """An array of strings; absent reads as empty."""
        return self._array(key, str, "text")

    def integers(self, key: str) -> tuple[int, ...]:
        """An array of integers; absent reads as empty."""
        return self._array(key, int, "a whole number")

    def table(self, key: str, keys: tuple[str, ...], *, optional: bool = False) -> Table:
        """A nested table; an absent optional one reads as empty."""
        value = self._take(key, Mapping, {} if optional else None, "a table")
        return Table(value, self._file, self._path(key), keys)

    def tables(self, key: str, keys: tuple[str, ...]) -> tuple[Table, ...]:
        """An array of tables; absent reads as empty."""
        items = self._array(key, Mapping, "a table")
        return tuple(
            Table(item, self._file, f"{self._path(key)}[{index}]", keys) for index, item in enumerate(items)
        )

    def fail(self, key: str, message: str) -> NoReturn:
        """Refuse the file because of the value at `key`."""
        raise RecipeError(f"{self._place(key)}: {message}")

    def _array(self, key: str, kind: Any, what: str) -> tuple[Any, ...]:  # noqa: ANN401
        items = self._take(key, list, [], "an array")
        if len(items) > _MAX_ITEMS:
            self.fail(key, f"{len(items)} items, at most {_MAX_ITEMS} allowed")
        for item in items:
            if not isinstance(item, kind) or isinstance(item, bool):
                self.fail(key, f"every item must be {what}")
        return tuple(items)

    def _take(self, key: str, kind: Any, default: Any, what: str) -> Any:  # noqa: ANN401
        value = self._value.get(key, default)
        if value is None:
            self.fail(key, "missing")
        if not isinstance(value, kind) or isinstance(value, bool):
            self.fail(key, f"expected {what}")
        return value

    def _path(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key

    def _place(self, key: str) -> str:
        return f"{self._file}: {self._path(key)}"
