from __future__ import annotations

import re
import re._constants as sre  # type: ignore[import-not-found,unused-ignore]
import re._parser as sre_parser  # type: ignore[import-not-found,unused-ignore]
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ota_contract.errors import ConditionError
from ota_contract.patterns import MAX_PATTERN, MAX_STEPS, MAX_SUBJECT, check_pattern, worst_steps

EXPONENTIAL = [
    "(a*)*b",
    "(a+)+$",
    "(a|a)*b",
    "(a|aa)*b",
    "(?:aa|a)+b",
    "(a?){30}a{30}",
    "a?" * 30 + "a" * 30,
    "a{0,9}" * 20 + "b",
    "(?:a?b?)*c",
    "((?:ab|cd)*)e",
    "(?>a|aa)*b",
    "(?:(?:a|ab)?c)*d",
    "(?:a*+)*b",
]
POLYNOMIAL = [
    ".*.*.*.*b",
    "^.*.*.*.*.*b",
    "a*a*a*b",
    "[ab]*[bc]*[cd]*$",
    "(?m)^.*.*.*b",
    "a{0,250}" * 3 + "b",
]


@pytest.mark.parametrize("pattern", EXPONENTIAL + POLYNOMIAL)
def test_a_pattern_that_can_run_away_is_refused(pattern: str) -> None:
    with pytest.raises(ConditionError):
        check_pattern(pattern)


@pytest.mark.parametrize(
    "pattern", ["(?=a)b", "(?!a)b", "(?<=a)b", "(?<!a)b", r"(a)\1", "(?P<x>a)(?P=x)", "(a)(?(1)b|c)"]
)
def test_backreferences_and_lookaround_are_refused(pattern: str) -> None:
    with pytest.raises(ConditionError, match="backreferences and lookaround"):
        check_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["(", "[", "a{2,1}", "*", "\\", "(?P<1>a)", "a{99999999999}", "(?L)a", "(?P<a>.)(?P<a>.)", "(?a)(?u)x"],
)
def test_what_is_no_regular_expression_is_refused(pattern: str) -> None:
    with pytest.raises(ConditionError, match="is not a regular expression"):
        check_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "^camera-[0-9]+$",
        "^(?:eu|us)-[a-z]+-\\d{1,3}$",
        "jetson|raspberry",
        "(?i)^JETSON",
        ".*-v2.*",
        "^[a-z]+-[0-9]+-.*$",
        "(?:foo|bar)?x",
        "(?:abc)*$",
        "a{1000}",
    ],
)
def test_what_fleet_managers_write_is_admitted(pattern: str) -> None:
    check_pattern(pattern)


def test_a_pattern_is_bounded_in_length() -> None:
    check_pattern("a" * MAX_PATTERN)
    with pytest.raises(ConditionError, match="longer"):
        check_pattern("a" * (MAX_PATTERN + 1))


def patterns() -> st.SearchStrategy[str]:
    atoms = st.sampled_from(["a", "b", "ab", ".", "[ab]", "[^a]", "^", "$", "\\b"])
    repeats = st.sampled_from(["*", "+", "?", "*?", "+?", "??", "{2}", "{0,3}", "{2,}", "*+", "?+"])

    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.lists(inner, min_size=1, max_size=4).map("".join),
            st.builds("(?:{}){}".format, inner, repeats),
            st.builds("({})".format, inner),
            st.builds("(?:{}|{})".format, inner, inner),
            st.builds("(?>{})".format, inner),
        )

    return st.recursive(atoms, grow, max_leaves=8)


SUBJECTS = ["a" * 12, "ab" * 6, "b" * 12, "aaabbbaaabbb", "a" * 11 + "c", "abc" * 4]


@settings(max_examples=400)
@given(patterns(), st.sampled_from(SUBJECTS))
def test_no_admitted_pattern_takes_more_steps_than_its_bound(pattern: str, subject: str) -> None:
    """Counted, not timed: a matcher that tries everything, in the order a backtracking engine does.

    It gives the engine's answer, so that what is counted is the engine's work.
    """
    try:
        bound = worst_steps(pattern, subject=len(subject))
    except ConditionError:
        return
    counter = StepCounter(subject, limit=bound)
    found = counter.search(sre_parser.parse(pattern))
    assert counter.steps <= bound, f"{pattern}: more than {bound} steps"
    if "?>" not in pattern and not re.search(r"[*+?}]\+", pattern):  # atomic parts give fewer matches
        assert found == (re.search(pattern, subject) is not None)


@given(patterns())
def test_an_admitted_pattern_is_within_the_limit_on_the_longest_subject(pattern: str) -> None:
    try:
        check_pattern(pattern)
    except ConditionError:
        return
    assert worst_steps(pattern, subject=MAX_SUBJECT) <= MAX_STEPS


def test_the_bound_is_not_beaten_by_the_classic_attack() -> None:
    """The counter itself sees an explosion, where the pattern is one."""
    counter = StepCounter("a" * 24 + "c", limit=20_000)
    counter.search(sre_parser.parse("(?:a|aa)*b"))
    assert counter.steps > 20_000


class StepCounter:
    """A naive backtracking matcher over the parsed pattern, failing always at the end to see every way.

    `limit`: it gives up counting a little beyond it.
    """

    def __init__(self, subject: str, *, limit: int) -> None:
        self.subject = subject
        self.limit = limit
        self.steps = 0

    def search(self, parsed: Any) -> bool:
        """Whether there is a match; counts until every way from every place is tried."""
        found = False
        items = list(parsed)
        anchored = bool(items) and items[0] == (sre.AT, sre.AT_BEGINNING)
        for begin in range(len(self.subject) + 1):
            if anchored and begin:
                self.steps += 1
                continue
            for _ in self._sequence(items, begin):
                found = True
                if self.steps > self.limit:
                    return found
        return found

    def _sequence(self, items: list[Any], at: int) -> Iterator[int]:
        if not items:
            yield at
            return
        for end in self._item(items[0], at):
            if self.steps > self.limit:
                return
            yield from self._sequence(items[1:], end)

    def _item(self, item: Any, at: int) -> Iterator[int]:
        code, argument = item
        if code is sre.SUBPATTERN:
            yield from self._sequence(list(argument[3]), at)
        elif code is sre.ATOMIC_GROUP:
            yield from self._sequence(list(argument), at)
        elif code is sre.BRANCH:
            for branch in argument[1]:
                yield from self._sequence(list(branch), at)
        elif code in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            low, high, body = argument
            yield from self._repeat(list(body), at, low, min(high, len(self.subject)), 0)
        else:
            self.steps += 1
            yield from self._single(code, argument, at)

    def _repeat(self, body: list[Any], at: int, low: int, high: int, count: int) -> Iterator[int]:
        if count < high:
            for end in self._sequence(body, at):
                if end > at or count < low:
                    yield from self._repeat(body, end, low, high, count + 1)
        if count >= low:
            yield at

    def _single(self, code: Any, argument: Any, at: int) -> Iterator[int]:
        width = 0 if code is sre.AT else 1
        if width and at >= len(self.subject):
            return
        tree = sre_parser.SubPattern(sre_parser.State(), [(code, argument)])
        if re.compile(_text_of(tree)).match(self.subject, at):
            yield at + width


def _text_of(tree: Any) -> str:
    ((code, argument),) = tree
    if code is sre.LITERAL:
        return re.escape(chr(argument))
    if code is sre.NOT_LITERAL:
        return f"[^{re.escape(chr(argument))}]"
    if code is sre.ANY:
        return "."
    if code is sre.AT:
        return {sre.AT_BEGINNING: "^", sre.AT_END: "$", sre.AT_BOUNDARY: r"\b"}[argument]
    letters = "".join(chr(value) for kind, value in argument if kind is sre.LITERAL)
    return f"[{letters}]"


def test_ranges_that_take_long_to_compile_are_refused() -> None:
    """Where case is ignored, each character of a range is looked up: forty of these take a quarter second."""
    check_pattern("(?i)[\0-\uffff]")
    check_pattern("[\0-\uffff]" * 3)
    with pytest.raises(ConditionError, match="too long"):
        check_pattern("(?i)" + "[\0-\uffff]" * 40)
