"""Which regular expressions a cohort rule may use: those that are quick on any subject.

A device evaluates a rule somebody else wrote, with Python's backtracking engine. So a pattern's steps are
counted at worst, from its parsed form, before it is admitted.
"""

from __future__ import annotations

import functools
import math
import re
import re._constants as sre  # type: ignore[import-not-found,unused-ignore]
import re._parser as sre_parser  # type: ignore[import-not-found,unused-ignore]
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ota_contract.errors import ConditionError

__all__ = ["MAX_PATTERN", "MAX_STEPS", "MAX_SUBJECT", "check_pattern", "worst_steps"]

MAX_PATTERN = 256
MAX_SUBJECT = 256
"""No attribute of a device is longer; a longer one matches nothing."""
MAX_STEPS = 10_000_000
"""Steps a search may take at worst on the longest subject: about a tenth of a second."""

_SINGLE_STEPS = (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN, sre.AT)
_REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
_BEGINNINGS = (sre.AT_BEGINNING, sre.AT_BEGINNING_STRING)
_STEPS_OF_A_CHARACTER = 10
"""What compiling costs for each character of a range where case is ignored: its variants are looked up."""


def check_pattern(pattern: str) -> None:
    """Admit a pattern.

    Raises:
        ConditionError: Not a regular expression, too long, or one that could take too many steps.
    """
    if len(pattern) > MAX_PATTERN:
        raise ConditionError(f"the pattern is longer than {MAX_PATTERN} characters")
    steps = worst_steps(pattern)
    if steps > MAX_STEPS:
        raise ConditionError(f"{pattern!r} could take too long; begin it with ^ and repeat less")


@functools.lru_cache(maxsize=128)
def worst_steps(pattern: str, subject: int = MAX_SUBJECT) -> int:
    """An upper bound on the steps of `re.search` on a subject of that many characters.

    Each open-ended repeat chooses a length, and so does the search for the place to begin at; k choices
    within n characters are made in at most (n + k) over k ways.

    Raises:
        ConditionError: Not a regular expression, or one of a kind that has no such bound.
    """
    try:
        parsed = sre_parser.parse(pattern)
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError, ValueError) as error:  # ValueError of (?a)(?u)
        raise ConditionError(f"{pattern!r} is not a regular expression: {error}") from error
    items = list(parsed)
    anchored = bool(items) and items[0][0] is sre.AT and items[0][1] in _BEGINNINGS
    if parsed.state.flags & re.MULTILINE:
        anchored = False  # ^ is then the beginning of any line
    searching = 0 if anchored else 1
    # Even an anchored search looks at every place, and fails at once at all but the first.
    return (_STEPS_OF_A_CHARACTER * _range_characters(items) + subject) + sum(
        count * math.comb(subject + choices + searching, choices + searching)
        for choices, count in _sequence_cost(items).steps.items()
    )


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a part of a pattern costs a backtracking engine at worst."""

    ways: int
    """Ways it can match from one place, counting open-ended repeats as one."""
    open_ended: int
    """Repeats whose length only the subject bounds."""
    steps: Mapping[int, int]
    """How many steps come after how many such repeats: trying all the ways once."""


def _sequence_cost(items: Iterable[Any]) -> _Cost:
    ways, open_ended = 1, 0
    steps = Counter({0: 1})
    for item in items:
        cost = _item_cost(item)
        for choices, count in cost.steps.items():
            steps[open_ended + choices] += ways * count  # what stands before is tried in all its ways
        ways *= cost.ways
        open_ended += cost.open_ended
    return _Cost(ways=ways, open_ended=open_ended, steps=steps)


def _item_cost(item: Any) -> _Cost:  # noqa: ANN401 - the parser's own tree
    code, argument = item
    if code in _REPEATS:
        return _repeat_cost(*argument)
    if code is sre.SUBPATTERN:
        return _sequence_cost(argument[3])
    if code is sre.ATOMIC_GROUP:
        return _sequence_cost(argument)
    if code is sre.BRANCH:
        costs = [_sequence_cost(branch) for branch in argument[1]]
        return _Cost(
            ways=sum(cost.ways for cost in costs),
            open_ended=max(cost.open_ended for cost in costs),
            steps=sum((Counter(cost.steps) for cost in costs), Counter()),
        )
    if code in _SINGLE_STEPS:
        return _Cost(ways=1, open_ended=0, steps={0: 1})
    raise ConditionError("backreferences and lookaround are not allowed in a pattern")


def _repeat_cost(low: int, high: int, body: Any) -> _Cost:  # noqa: ANN401 - the parser's own tree
    cost = _sequence_cost(body)
    if high > 1 and (cost.ways > 1 or cost.open_ended):
        # Every round multiplies the ways: (a|aa)* and (a*)* are exponential in the subject.
        raise ConditionError("a repeat or an alternative inside a repeat is not allowed in a pattern")
    round_steps = cost.steps[0]
    if high > MAX_SUBJECT:
        steps = {0: 1 + round_steps * min(low, MAX_SUBJECT), 1: round_steps}
        return _Cost(ways=1, open_ended=1, steps=steps)
    if high > 1:
        return _Cost(ways=high - low + 1, open_ended=0, steps={0: 1 + round_steps * high})
    return _Cost(ways=cost.ways + 1 - low, open_ended=cost.open_ended, steps=cost.steps)


def _range_characters(tree: Any) -> int:  # noqa: ANN401 - the parser's own tree
    """Characters in all the ranges of a pattern, such as 26 in [a-z]."""
    if isinstance(tree, tuple) and len(tree) == 2 and tree[0] is sre.RANGE:  # noqa: PLR2004
        low, high = tree[1]
        return int(high - low + 1)
    if isinstance(tree, (tuple, list, sre_parser.SubPattern)):
        return sum(map(_range_characters, tree))
    return 0
