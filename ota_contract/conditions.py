"""Cohort rules: GrowthBook's condition language, checked when written, bounded when evaluated.

Semantics follow https://docs.growthbook.io/lib/build-your-own ("Evaluating conditions"), so that a rule
means the same in every SDK. One difference, on purpose: GrowthBook lets an unknown operator evaluate to
false, which inside `$not` selects everybody; here `parse_condition` refuses it, and only a `Condition`
can be evaluated.
"""

from __future__ import annotations

import re
import re._constants as sre  # type: ignore[import-not-found,unused-ignore]
import re._parser as sre_parser  # type: ignore[import-not-found,unused-ignore]
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ota_contract.documents import canonical_json
from ota_contract.errors import ConditionError

__all__ = ["EVERYONE", "Condition", "parse_condition"]

_MAX_RULE_BYTES = 16 * 1024
_MAX_NODES = 512
_MAX_DEPTH = 12
_MAX_PATTERN = 256
_MAX_SUBJECT = 1024

_VERSION_SPLIT = re.compile(r"[-.]")
_TYPES = ("string", "number", "boolean", "array", "object", "null", "undefined")
_GROUPS = ("$and", "$or", "$nor")


class Condition:
    """A validated rule; `matches` is pure and takes bounded time."""

    __slots__ = ("_rule",)

    def __init__(self, rule: Mapping[str, Any]) -> None:
        """Use `parse_condition`; this constructor trusts its argument."""
        self._rule = rule

    @property
    def rule(self) -> Mapping[str, Any]:
        """The rule as JSON."""
        return self._rule

    def matches(self, attributes: Mapping[str, Any]) -> bool:
        """Whether a device with these attributes is selected."""
        return _evaluate(self._rule, attributes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and self._rule == other._rule

    def __hash__(self) -> int:
        return hash(canonical_json(self._rule))

    def __repr__(self) -> str:
        return f"Condition({canonical_json(self._rule).decode()})"


def parse_condition(rule: object) -> Condition:
    """Validate a rule.

    Raises:
        ConditionError: An unknown operator, an operand of the wrong type, a regular expression that
            could take more than linear time, or a rule larger than the bounds.
    """
    if not isinstance(rule, Mapping):
        raise ConditionError('a cohort rule is a JSON object such as {"region": "eu"}')
    if len(canonical_json(rule)) > _MAX_RULE_BYTES:
        raise ConditionError(f"the cohort rule is longer than {_MAX_RULE_BYTES} bytes")
    nodes = sum(1 for _ in _walk(rule, 0))
    if nodes > _MAX_NODES:
        raise ConditionError(f"the cohort rule has {nodes} parts, at most {_MAX_NODES} allowed")
    _check_rule(rule)
    return Condition(rule)


EVERYONE = Condition({})
"""The rule that selects every device."""


def _walk(value: object, depth: int) -> Iterator[object]:
    if depth > _MAX_DEPTH:
        raise ConditionError(f"the cohort rule is nested deeper than {_MAX_DEPTH}")
    yield value
    if isinstance(value, Mapping):
        for child in value.values():
            yield from _walk(child, depth + 1)
    elif isinstance(value, list):
        for child in value:
            yield from _walk(child, depth + 1)


def _check_rule(rule: Mapping[str, Any]) -> None:
    for key, value in rule.items():
        if key in _GROUPS:
            for item in _expect(key, value, list, "a list of rules"):
                _check_rule(_expect(key, item, Mapping, "a list of rules"))
        elif key == "$not":
            _check_rule(_expect(key, value, Mapping, "a rule"))
        elif key.startswith("$"):
            raise ConditionError(f"unknown operator {key} at the top of a cohort rule")
        else:
            _check_value(value)


def _check_value(value: object) -> None:
    if _is_operators(value):
        for operator, operand in value.items():  # type: ignore[attr-defined]
            check = _CHECKS.get(operator)
            if check is None:
                known = ", ".join(sorted(_CHECKS))
                raise ConditionError(f"unknown operator {operator}; known are {known}")
            check(operator, operand)


def _expect(operator: str, value: object, kind: Any, wanted: str) -> Any:  # noqa: ANN401
    if not isinstance(value, kind):
        raise ConditionError(f"{operator} takes {wanted}, got {value!r:.80}")
    return value


def _check_anything(operator: str, operand: object) -> None:
    pass


def _check_list(operator: str, operand: object) -> None:
    _expect(operator, operand, list, "a list")


def _check_all(operator: str, operand: object) -> None:
    for item in _expect(operator, operand, list, "a list"):
        _check_value(item)


def _check_comparable(operator: str, operand: object) -> None:
    if isinstance(operand, bool) or not isinstance(operand, (int, float, str)):
        raise ConditionError(f"{operator} takes a number or a text, got {operand!r:.80}")


def _check_text(operator: str, operand: object) -> None:
    _expect(operator, operand, str, "a text")


def _check_flag(operator: str, operand: object) -> None:
    _expect(operator, operand, bool, "true or false")


def _check_nested(operator: str, operand: object) -> None:
    if operator == "$elemMatch" and not _is_operators(operand):
        _check_rule(_expect(operator, operand, Mapping, "a rule or an operator"))
    else:
        _check_value(operand)


def _check_type(operator: str, operand: object) -> None:
    if operand not in _TYPES:
        raise ConditionError(f"{operator} takes one of {', '.join(_TYPES)}, got {operand!r:.80}")


def _check_regex(operator: str, operand: object) -> None:
    """Admit only patterns a backtracking engine runs in bounded time on a bounded subject.

    Exponential cost needs a repeat inside a repeat, or a backreference; polynomial cost of a high
    degree needs many unbounded repeats in a row. All three are refused.
    """
    pattern = _expect(operator, operand, str, "a regular expression")
    if len(pattern) > _MAX_PATTERN:
        raise ConditionError(f"{operator}: pattern longer than {_MAX_PATTERN} characters")
    try:
        parsed = sre_parser.parse(pattern)
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConditionError(f"{operator}: {pattern!r} is not a regular expression: {error}") from error
    repeats = _count_repeats(parsed, inside=False, operator=operator)
    if repeats > 2:  # noqa: PLR2004 - subject² steps at most: a million, some 10 ms
        raise ConditionError(f"{operator}: at most two unbounded repeats, {pattern!r} has {repeats}")


def _count_repeats(parsed: Any, *, inside: bool, operator: str) -> int:  # noqa: ANN401
    count = 0
    for code, argument in parsed:
        if code in (sre.GROUPREF, sre.GROUPREF_EXISTS, sre.ASSERT, sre.ASSERT_NOT):
            raise ConditionError(f"{operator}: backreferences and lookaround are not allowed")
        repeated = code in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
        if repeated:
            if inside:
                raise ConditionError(f"{operator}: a repeat inside a repeat is not allowed")
            _, high, _ = argument
            count += high > 16  # noqa: PLR2004 - `?` and short counts cost a constant factor
        for part in argument if isinstance(argument, tuple) else (argument,):
            branches = part if isinstance(part, list) else [part]
            for branch in branches:
                if isinstance(branch, sre_parser.SubPattern):
                    count += _count_repeats(branch, inside=inside or repeated, operator=operator)
    return count


def _evaluate(rule: Mapping[str, Any], attributes: Mapping[str, Any]) -> bool:
    for key, value in rule.items():
        match key:
            case "$or":
                passed = not value or any(_evaluate(item, attributes) for item in value)
            case "$nor":
                passed = not (not value or any(_evaluate(item, attributes) for item in value))
            case "$and":
                passed = all(_evaluate(item, attributes) for item in value)
            case "$not":
                passed = not _evaluate(value, attributes)
            case _:
                passed = _evaluate_value(value, _lookup(attributes, key))
        if not passed:
            return False
    return True


class _Missing:
    """The value of an attribute a device does not have; JavaScript's undefined."""


_MISSING = _Missing()


def _lookup(attributes: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401
    current: Any = attributes
    for part in path.split("."):
        if not isinstance(current, Mapping) or part not in current:
            return _MISSING
        current = current[part]
    return current


def _is_operators(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) and key.startswith("$") for key in value)
    )


def _evaluate_value(expected: Any, actual: Any) -> bool:  # noqa: ANN401
    if _is_operators(expected):
        return all(_OPERATORS[operator](operand, actual) for operator, operand in expected.items())
    if actual is _MISSING:
        return expected is None
    return _same(expected, actual)


def _same(left: object, right: object) -> bool:
    """JSON equality: unlike Python's, true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return left == right


def _defined(actual: object) -> object:
    return None if actual is _MISSING else actual


def _in(operand: list[Any], actual: Any) -> bool:  # noqa: ANN401
    if isinstance(actual, list):
        return any(_same(item, wanted) for item in actual for wanted in operand)
    return any(_same(_defined(actual), wanted) for wanted in operand)


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(operand: Any, actual: Any) -> bool:  # noqa: ANN401
        if isinstance(actual, bool) or isinstance(operand, str) != isinstance(actual, str):
            return False
        return isinstance(actual, (int, float, str)) and test(actual, operand)

    return compare


def _compare_versions(test: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    def compare(operand: Any, actual: Any) -> bool:  # noqa: ANN401
        text = actual if isinstance(actual, str) else "0"
        return test(_padded_version(text), _padded_version(operand))

    return compare


def _padded_version(text: str) -> str:
    """A text whose plain ordering is the version's, as GrowthBook pads it."""
    core = text.removeprefix("v").split("+", 1)[0]
    parts = _VERSION_SPLIT.split(core)
    if len(parts) == 3:  # noqa: PLR2004 - a release sorts above its pre-releases: '~' is above letters
        parts.append("~")
    return "-".join(part.rjust(5) if part.isdigit() else part for part in parts)


def _regex(operand: str, actual: Any) -> bool:  # noqa: ANN401
    if not isinstance(actual, str) or len(actual) > _MAX_SUBJECT:
        return False
    return re.search(operand, actual) is not None


def _element_match(operand: Mapping[str, Any], actual: Any) -> bool:  # noqa: ANN401
    if not isinstance(actual, list):
        return False
    if _is_operators(operand):
        return any(_evaluate_value(operand, item) for item in actual)
    return any(isinstance(item, Mapping) and _evaluate(operand, item) for item in actual)


def _all(operand: list[Any], actual: Any) -> bool:  # noqa: ANN401
    if not isinstance(actual, list):
        return False
    return all(any(_evaluate_value(wanted, item) for item in actual) for wanted in operand)


def _type_name(value: object) -> str:
    if value is _MISSING:
        return "undefined"
    names = {str: "string", bool: "boolean", int: "number", float: "number", list: "array"}
    if value is None:
        return "null"
    return "object" if isinstance(value, Mapping) else names.get(type(value), "unknown")


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda operand, actual: _same(operand, _defined(actual)),
    "$ne": lambda operand, actual: not _same(operand, _defined(actual)),
    "$in": _in,
    "$nin": lambda operand, actual: not _in(operand, actual),
    "$lt": _compare(lambda actual, operand: actual < operand),
    "$lte": _compare(lambda actual, operand: actual <= operand),
    "$gt": _compare(lambda actual, operand: actual > operand),
    "$gte": _compare(lambda actual, operand: actual >= operand),
    "$veq": _compare_versions(lambda actual, operand: actual == operand),
    "$vne": _compare_versions(lambda actual, operand: actual != operand),
    "$vlt": _compare_versions(lambda actual, operand: actual < operand),
    "$vlte": _compare_versions(lambda actual, operand: actual <= operand),
    "$vgt": _compare_versions(lambda actual, operand: actual > operand),
    "$vgte": _compare_versions(lambda actual, operand: actual >= operand),
    "$regex": _regex,
    "$exists": lambda operand, actual: operand == (_defined(actual) is not None),
    "$type": lambda operand, actual: _type_name(actual) == operand,
    "$not": lambda operand, actual: not _evaluate_value(operand, actual),
    "$elemMatch": _element_match,
    "$all": _all,
    "$size": lambda operand, actual: isinstance(actual, list) and _evaluate_value(operand, len(actual)),
}

_CHECKS: Mapping[str, Callable[[str, object], None]] = {
    "$eq": _check_anything,
    "$ne": _check_anything,
    "$in": _check_list,
    "$nin": _check_list,
    "$lt": _check_comparable,
    "$lte": _check_comparable,
    "$gt": _check_comparable,
    "$gte": _check_comparable,
    "$veq": _check_text,
    "$vne": _check_text,
    "$vlt": _check_text,
    "$vlte": _check_text,
    "$vgt": _check_text,
    "$vgte": _check_text,
    "$regex": _check_regex,
    "$exists": _check_flag,
    "$type": _check_type,
    "$not": _check_nested,
    "$elemMatch": _check_nested,
    "$all": _check_all,
    "$size": _check_nested,
}
