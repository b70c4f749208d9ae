"""Cohort rules: GrowthBook's condition language, checked when written, bounded when evaluated.

Semantics follow https://docs.growthbook.io/lib/build-your-own ("Evaluating conditions"), so that a rule
means the same in every SDK. On purpose, what GrowthBook's SDKs disagree on is refused by `parse_condition`
(unknown operators, which inside `$not` could select everybody; `{}` as a value; lists and objects compared
with `$eq`, `$in`), and nothing is coerced: a comparison with a missing attribute or with one of another
type is false. `tests/vectors/conditions.json` says it case by case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ota_contract.documents import canonical_json
from ota_contract.errors import ConditionError, FormatError
from ota_contract.patterns import MAX_STEPS, MAX_SUBJECT, check_pattern, worst_steps

__all__ = ["EVERYONE", "Condition", "parse_condition"]

_MAX_RULE_BYTES = 16 * 1024
_MAX_NODES = 512
_MAX_DEPTH = 12
_MAX_ELEMENTS = 64
"""Of a device's longest list."""

_VERSION_SPLIT = re.compile(r"[-.]")
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
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
        # Not by ==, to which true is 1.
        return isinstance(other, Condition) and canonical_json(self._rule) == canonical_json(other._rule)

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
    nodes = sum(1 for _ in _walk(rule, 0))
    if nodes > _MAX_NODES:
        raise ConditionError(f"the cohort rule has {nodes} parts, at most {_MAX_NODES} allowed")
    try:
        length = len(canonical_json(rule))
    except FormatError as error:
        raise ConditionError(f"the cohort rule is {error}") from error
    if length > _MAX_RULE_BYTES:
        raise ConditionError(f"the cohort rule is longer than {_MAX_RULE_BYTES} bytes")
    _check_rule(rule)
    # Each pattern is quick, but a rule has room for a hundred, tried on each element of a list.
    if _pattern_steps(rule) > MAX_STEPS:
        raise ConditionError("the patterns of the cohort rule could take too long together; use fewer")
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


def _pattern_steps(rule: Mapping[str, Any], times: int = 1) -> int:
    """Steps that all the regular expressions of a checked rule take at worst."""
    steps = times * worst_steps(rule["$regex"]) if "$regex" in rule else 0
    for key, value in rule.items():
        # No attribute holds lists in a list, so the elements multiply once.
        within = _MAX_ELEMENTS if key in ("$elemMatch", "$all") else times
        # Any other list is compared with, and nothing in it obeyed.
        parts = value if key in (*_GROUPS, "$all") else [value]
        steps += sum(_pattern_steps(part, within) for part in parts if isinstance(part, Mapping))
    return steps


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
    elif isinstance(value, Mapping):
        _check_literal(value)


def _check_literal(value: Mapping[str, Any]) -> None:
    if not value:
        raise ConditionError("{} as a value means anything to some SDKs and nothing to others")
    for part in _walk(value, 0):
        if isinstance(part, Mapping) and any(key.startswith("$") for key in part):
            raise ConditionError(
                "an operator among or below plain keys would be compared, not obeyed; "
                'write {"a.b": {"$gt": 1}} for a nested attribute'
            )


def _expect(operator: str, value: object, kind: Any, wanted: str) -> Any:  # noqa: ANN401
    if not isinstance(value, kind):
        raise ConditionError(f"{operator} takes {wanted}, got {value!r:.80}")
    return value


def _check_scalar(operator: str, operand: object) -> None:
    # Lists and objects are never equal to one another in JavaScript's SDK.
    if isinstance(operand, (list, Mapping)):
        raise ConditionError(f"{operator} takes a text, a number, true, false or null, got {operand!r:.80}")


def _check_list(operator: str, operand: object) -> None:
    for item in _expect(operator, operand, list, "a list"):
        _check_scalar(operator, item)


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
    if operator == "$elemMatch" and not _tests_element(operand):
        if not _expect(operator, operand, Mapping, "a rule or an operator"):
            raise ConditionError(f"{operator} takes a rule or an operator, got {{}}")
        _check_rule(operand)  # type: ignore[arg-type]
    else:
        _check_value(operand)


def _check_type(operator: str, operand: object) -> None:
    if operand not in _TYPES:
        raise ConditionError(f"{operator} takes one of {', '.join(_TYPES)}, got {operand!r:.80}")


def _check_regex(operator: str, operand: object) -> None:
    try:
        check_pattern(_expect(operator, operand, str, "a regular expression"))
    except ConditionError as error:
        raise ConditionError(f"{operator}: {error}") from error


def _evaluate(rule: Mapping[str, Any], attributes: Any) -> bool:  # noqa: ANN401 - $elemMatch's elements
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


def _lookup(attributes: Any, path: str) -> Any:  # noqa: ANN401
    current = attributes
    for part in path.split("."):
        if isinstance(current, Mapping) and part in current:
            current = current[part]
        elif isinstance(current, list) and part == "length":
            current = len(current)
        elif isinstance(current, list) and _INDEX.fullmatch(part) and int(part) < len(current):
            current = current[int(part)]
        else:
            return _MISSING
    return current


def _is_operators(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) and key.startswith("$") for key in value)
    )


def _tests_element(operand: object) -> bool:
    """Whether an `$elemMatch` tests the elements themselves, and not their fields."""
    return _is_operators(operand) and not any(key in _GROUPS for key in operand)  # type: ignore[attr-defined]


def _evaluate_value(expected: Any, actual: Any) -> bool:  # noqa: ANN401
    if _is_operators(expected):
        return all(_OPERATORS[operator](operand, actual) for operator, operand in expected.items())
    if actual is _MISSING:
        return expected is None
    return _same(expected, actual)


def _same(left: object, right: object) -> bool:
    """JSON equality: unlike Python's, true is not 1, at any depth."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    return left == right


def _defined(actual: object) -> object:
    return None if actual is _MISSING else actual


def _in(operand: list[Any], actual: Any) -> bool:  # noqa: ANN401
    if isinstance(actual, list):
        return any(_same(item, wanted) for item in actual for wanted in operand)
    return any(_same(_defined(actual), wanted) for wanted in operand)


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(operand: Any, actual: Any) -> bool:  # noqa: ANN401
        if isinstance(actual, str) and isinstance(operand, str):
            return test(_utf16(actual), _utf16(operand))
        numbers = isinstance(actual, (int, float)) and not isinstance(actual, bool)
        return numbers and not isinstance(operand, str) and test(actual, operand)

    return compare


def _utf16(text: str) -> bytes:
    """A key that orders texts by UTF-16 code units, as JavaScript does."""
    return text.encode("utf-16-be", "surrogatepass")


def _compare_versions(
    test: Callable[[str, str], bool], *, otherwise: bool = False
) -> Callable[[Any, Any], bool]:
    def compare(operand: Any, actual: Any) -> bool:  # noqa: ANN401
        if not isinstance(actual, str):
            return otherwise
        return test(_padded_version(actual), _padded_version(operand))

    return compare


def _padded_version(text: str) -> str:
    """A text whose plain ordering is the version's, as GrowthBook pads it."""
    core = (text or "0").removeprefix("v").split("+", 1)[0]
    parts = _VERSION_SPLIT.split(core)
    if len(parts) == 3:  # noqa: PLR2004 - a release sorts above its pre-releases: '~' is above letters
        parts.append("~")
    return "-".join(part.rjust(5) if part.isdigit() else part for part in parts)


def _regex(operand: str, actual: Any) -> bool:  # noqa: ANN401
    if not isinstance(actual, str) or len(actual) > MAX_SUBJECT:
        return False
    return re.search(operand, actual) is not None


def _element_match(operand: Mapping[str, Any], actual: Any) -> bool:  # noqa: ANN401
    if not isinstance(actual, list):
        return False
    test = _evaluate_value if _tests_element(operand) else _evaluate
    return any(item is not None and test(operand, item) for item in actual)


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
    "$vne": _compare_versions(lambda actual, operand: actual != operand, otherwise=True),
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
    "$eq": _check_scalar,
    "$ne": _check_scalar,
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
