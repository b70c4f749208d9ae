"""Changes to JSON documents that bytes alone would seldom make: another value, key or shape at one place."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

__all__ = ["mutate_json"]

_POISON: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    0,
    1,
    2**31,
    2**63 - 1,
    2**63,
    10**400,
    -(10**400),
    1e308,
    5e-324,
    -0.0,
    0.5,
    "",
    "x" * 300,
    "x" * 5000,
    "\ud800",
    "\0",
    "\x1b[2J",
    "\u2028",
    "../../etc/passwd",
    "release.json",
    "Release.JSON",
    "GOLDEN.JSON",
    "golden.json/x",
    "１",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "1.0.0-" + "9" * 32,
    "(?a)(?u)x",
    "(?i)[\0-\uffff]" * 20,
    ".*.*.*",
    "^(a|b|c|ab){0,9}$",
    [],
    [[]],
    {},
    {"": ""},
    {"$gt": 1},
    {"$regex": ".*a"},
    {"$elemMatch": {"$regex": "a*b"}},
    [None],
    [{}],
    [1.5] * 9,
)
_CHARACTERS = '"\\\0\x7f\u2028é中😀.*+?^$()[]{}|0９-_/:'


def mutate_json(data: bytes, words: list[str], random: Random) -> bytes | None:
    """A neighbour of a document; None where it is no JSON."""
    try:
        value = json.loads(data)
        places = list(_places(value))
        if not places:
            return None
        for _ in range(random.choice((1, 1, 1, 2, 5))):
            random.choice(_CHANGES)(*random.choice(places), places, words, random)
        return json.dumps(value, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError, KeyError, IndexError):
        return None  # an earlier change of these has taken the place away


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key)."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(items):
        yield value, key
        yield from _places(child)


_Places = list[tuple[Any, Any]]


def _poison(container: Any, key: Any, _: _Places, __: list[str], random: Random) -> None:
    container[key] = copy.deepcopy(random.choice(_POISON))


def _remove(container: Any, key: Any, _: _Places, __: list[str], ___: Random) -> None:
    del container[key]


def _transplant(container: Any, key: Any, places: _Places, _: list[str], random: Random) -> None:
    other, place = random.choice(places)
    container[key] = copy.deepcopy(other[place])


def _repeat(container: Any, key: Any, _: _Places, words: list[str], random: Random) -> None:
    if isinstance(container, list):
        container.extend(copy.deepcopy(container[key]) for _ in range(random.choice((1, 2, 40))))
    else:
        container[random.choice(words) if words else "x"] = copy.deepcopy(container[key])


def _rename(container: Any, key: Any, _: _Places, words: list[str], random: Random) -> None:
    if isinstance(container, dict) and words:
        container[random.choice(words)] = container.pop(key)


def _nest(container: Any, key: Any, _: _Places, words: list[str], random: Random) -> None:
    inner = container[key]
    container[key] = {random.choice(words): inner} if words and random.random() < 0.5 else [inner]


def _nudge(container: Any, key: Any, _: _Places, words: list[str], random: Random) -> None:
    value = container[key]
    if isinstance(value, bool) or value is None:
        container[key] = not value
    elif isinstance(value, int):
        container[key] = value + random.choice((-1, 1, 10, -(2**40), 2**40))
    elif isinstance(value, float):
        container[key] = value * random.choice((-1, 2, 1e200))
    elif isinstance(value, str):
        place = random.randint(0, len(value))
        piece = random.choice(_CHARACTERS) if random.random() < 0.7 or not words else random.choice(words)
        container[key] = value[:place] + piece + value[place + random.choice((0, 0, 1, 3)) :]


_CHANGES: tuple[Callable[[Any, Any, _Places, list[str], Random], None], ...] = (
    _poison,
    _poison,
    _nudge,
    _nudge,
    _nudge,
    _transplant,
    _repeat,
    _rename,
    _remove,
    _nest,
)
