from __future__ import annotations

from typing import Any

import pytest
from growthbook.core import evalCondition
from hypothesis import given, settings
from hypothesis import strategies as st

from ota_contract.conditions import _CHECKS, _OPERATORS, EVERYONE, Condition, parse_condition
from ota_contract.errors import ConditionError, ContractError
from tests.ota_contract.contract_strategies import json_values

# Few values, so that rules and devices meet often.
WORDS = ["", "a", "b", "B", "eu", "eu-west", "10", "ä", "\uffee", "😀"]
VERSIONS = ["1.0.0", "1.0.0-rc.1", "v1.2.3+b7", "1.10", "2", "", "x.y", "10000.0.0", "9999.0.0"]
PATHS = ["region", "ram", "tags", "nested.a", "nested.b.c", "tags.0", "tags.length", "version", "absent"]


def texts() -> st.SearchStrategy[str]:
    return st.sampled_from(WORDS + VERSIONS)


def numbers() -> st.SearchStrategy[Any]:
    return st.sampled_from([0, 1, -1, 2, 0.5, 1.0, 10, 2**31])


def scalars() -> st.SearchStrategy[Any]:
    return st.none() | st.booleans() | numbers() | texts()


def literals() -> st.SearchStrategy[Any]:
    """What an attribute may be compared with; objects have one key, see `test_key_order`."""
    inner = scalars()
    return (
        inner
        | st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from("ab"), inner, min_size=1, max_size=1)
    )


def operands(depth: int) -> dict[str, st.SearchStrategy[Any]]:
    """Every operator with the operands it takes."""
    plain: dict[str, st.SearchStrategy[Any]] = {
        **dict.fromkeys(["$eq", "$ne"], scalars()),
        **dict.fromkeys(["$in", "$nin"], st.lists(scalars(), max_size=3)),
        **dict.fromkeys(["$lt", "$lte", "$gt", "$gte"], numbers() | texts()),
        **dict.fromkeys(["$veq", "$vne", "$vlt", "$vlte", "$vgt", "$vgte"], st.sampled_from(VERSIONS)),
        "$regex": st.sampled_from(["^eu", "[0-9]+", "^v?1\\.", "a|b", "(?i)B$", ""]),
        "$exists": st.booleans(),
        "$type": st.sampled_from(["string", "number", "boolean", "array", "object"]),
    }
    if not depth:
        return plain
    return plain | {
        "$not": values(depth - 1),
        "$elemMatch": operators(depth - 1) | element_rules(depth - 1),
        "$all": st.lists(values(depth - 1), max_size=2),
        "$size": st.integers(0, 3) | operators(0),
    }


def operators(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    one = st.one_of([st.tuples(st.just(name), operand) for name, operand in operands(depth).items()])
    return st.lists(one, min_size=1, max_size=2).map(dict)


def values(depth: int) -> st.SearchStrategy[Any]:
    return literals() | operators(depth)


def rules(depth: int, min_size: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    fields = st.tuples(st.sampled_from(PATHS), values(depth))
    if not depth:
        return st.lists(fields, min_size=min_size, max_size=2).map(dict)
    inner = rules(depth - 1)
    groups = st.tuples(st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, max_size=3))
    return st.lists(fields | groups | st.tuples(st.just("$not"), inner), min_size=min_size, max_size=3).map(
        dict
    )


def element_rules(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Rules over the fields of an element; `$not` alone would test the element itself."""
    return rules(depth, min_size=1).filter(lambda rule: "$not" not in rule)


def devices() -> st.SearchStrategy[dict[str, Any]]:
    nested = st.fixed_dictionaries(
        {}, optional={"a": scalars(), "b": st.fixed_dictionaries({"c": scalars()})}
    )
    items = scalars() | st.dictionaries(st.sampled_from("ab"), scalars(), max_size=1)
    return st.fixed_dictionaries(
        {},
        optional={
            "region": scalars(),
            "ram": scalars(),
            "version": st.sampled_from(VERSIONS) | scalars(),
            "tags": st.lists(items, max_size=3) | scalars(),
            "nested": nested,
        },
    )


@settings(max_examples=800)
@given(rules(2), devices())
def test_a_rule_means_what_it_means_to_growthbook(rule: dict[str, Any], device: dict[str, Any]) -> None:
    """Every admitted rule, on any device, as GrowthBook 4.0.0 for Python evaluates it.

    What differs is not generated: `$type` of null (a missing attribute is `undefined` to us and to
    JavaScript's SDK, `null` to Python's), and objects with several keys (see
    `test_key_order_does_not_matter`).
    """
    assert parse_condition(rule).matches(device) == evalCondition(device, rule)


def test_every_operator_is_generated() -> None:
    assert operands(1).keys() == _OPERATORS.keys() == _CHECKS.keys()


@pytest.mark.parametrize("operator", operands(1))
def test_every_operator_is_compared_with_growthbook(operator: str) -> None:
    """Both answers occur, so that agreement is not agreement on nothing."""
    seen: set[bool] = set()

    values_of = st.sampled_from(VERSIONS) | texts() | scalars() | st.lists(scalars(), max_size=3)

    @settings(max_examples=300)
    @given(operands(1)[operator], values_of)
    def compare(operand: Any, value: Any) -> None:
        device, rule = {"a": value}, {"a": {operator: operand}}
        answer = parse_condition(rule).matches(device)
        assert answer == evalCondition(device, rule)
        seen.add(answer)

    compare()
    assert seen == {True, False}


def test_everyone_is_everyone() -> None:
    assert EVERYONE.matches({})
    assert parse_condition({}) == EVERYONE
    assert not parse_condition({"$not": {}}).matches({"a": 1})


def test_key_order_does_not_matter() -> None:
    """In JavaScript's SDK it does; our rules are signed with sorted keys, so it cannot."""
    rule = parse_condition({"a": {"x": 1, "y": 2}})
    assert rule.matches({"a": {"y": 2, "x": 1}})


def test_a_missing_attribute_is_of_type_undefined() -> None:
    assert parse_condition({"a": {"$type": "undefined"}}).matches({})
    assert not parse_condition({"a": {"$type": "null"}}).matches({})
    assert parse_condition({"a": {"$type": "null"}}).matches({"a": None})


def test_nothing_is_coerced() -> None:
    """GrowthBook's published cases compare "8" with 5 and nothing with -10; SDKs disagree on it."""
    assert not parse_condition({"n": {"$gt": 5, "$lt": 10}}).matches({"n": "8"})
    assert not parse_condition({"n": {"$gt": "5"}}).matches({"n": 8})
    assert not parse_condition({"age": {"$gt": -10}}).matches({})
    assert not parse_condition({"v": {"$vlt": "2.0.0"}}).matches({})
    assert not parse_condition({"v": {"$vlt": "2.0.0"}}).matches({"v": 1})


def test_true_is_not_one_at_any_depth() -> None:
    for literal, actual in ((True, 1), (1, True), ([True], [1]), ({"a": [0]}, {"a": [False]})):
        assert not parse_condition({"a": literal}).matches({"a": actual})
    assert parse_condition({"a": True}) != parse_condition({"a": 1})


def test_equal_rules_have_equal_hashes() -> None:
    one, other = parse_condition({"a": 1, "b": [2]}), parse_condition({"b": [2], "a": 1})
    assert one == other
    assert hash(one) == hash(other)
    assert one != {"a": 1}
    assert repr(one) == 'Condition({"a":1,"b":[2]})'


REFUSED: list[Any] = [
    None,
    [],
    "text",
    {"$where": "1"},
    {"a": {"$unknown": 1}},
    {"a": {"$not": {"$unknown": 1}}},
    {"$not": {"a": {"$unknown": 1}}},
    {"$or": [{"a": {"$unknown": 1}}]},
    {"a": {"$elemMatch": {"b": {"$unknown": 1}}}},
    {"a": {"$all": [{"$unknown": 1}]}},
    {"a": {"$size": {"$unknown": 1}}},
    {"$or": {}},
    {"$and": [1]},
    {"$nor": None},
    {"$not": []},
    {"a": {"$or": []}},
    {"a": {}},
    {"a": {"$gt": 1, "b": 2}},
    {"a": {"b": {"$gt": 1}}},
    {"a": {"b": [{"$gt": 1}]}},
    {"a": {"$eq": []}},
    {"a": {"$ne": {"b": 1}}},
    {"a": {"$in": "text"}},
    {"a": {"$in": [[1]]}},
    {"a": {"$nin": [{}]}},
    {"a": {"$gt": True}},
    {"a": {"$lt": None}},
    {"a": {"$lte": []}},
    {"a": {"$vgt": 1}},
    {"a": {"$exists": 1}},
    {"a": {"$type": "text"}},
    {"a": {"$type": []}},
    {"a": {"$all": {}}},
    {"a": {"$elemMatch": {}}},
    {"a": {"$elemMatch": 1}},
    {"a": {"$size": {}}},
    {"a": {"$not": {}}},
    {"a": {"$regex": 1}},
    {"a": {"$regex": "("}},
    {"a": {"$regex": "a" * 257}},
    {"a": float("nan")},
    {"a": "\ud800"},
    {"a": "x" * 20_000},
    {"a": list(range(600))},
]


@pytest.mark.parametrize("rule", REFUSED, ids=lambda rule: repr(rule)[:40])
def test_a_rule_that_could_mean_two_things_is_refused(rule: object) -> None:
    with pytest.raises(ConditionError):
        parse_condition(rule)


def test_a_rule_is_bounded_in_depth() -> None:
    rule: dict[str, Any] = {"a": 1}
    for _ in range(100_000):
        rule = {"$not": rule}
    with pytest.raises(ConditionError, match="deeper"):
        parse_condition(rule)


@given(json_values())
def test_any_json_is_a_rule_or_refused(value: Any) -> None:
    try:
        condition = parse_condition(value)
    except ContractError:
        return
    assert condition.matches({}) in (True, False)
    assert condition.matches({"a": [1, {"b": None}]}) in (True, False)


@given(rules(2), json_values())
def test_any_admitted_rule_evaluates_on_any_attributes(rule: dict[str, Any], value: Any) -> None:
    device = {"region": value, "tags": [value], "nested": value, "ram": value, "version": value}
    assert isinstance(parse_condition(rule).matches(device), bool)


def test_a_subject_beyond_the_bound_matches_no_pattern() -> None:
    condition = parse_condition({"a": {"$regex": "^a"}})
    assert condition.matches({"a": "a" * 256})
    assert not condition.matches({"a": "a" * 257})


def test_a_condition_keeps_its_rule() -> None:
    rule = {"$or": [{"a": {"$gt": 1}}, {"tags": {"$elemMatch": {"$eq": "x"}}}]}
    condition = parse_condition(rule)
    assert condition.rule == rule
    assert isinstance(condition, Condition)


def test_patterns_that_are_quick_one_by_one_are_refused_when_they_are_too_many() -> None:
    """A hundred patterns of a tenth of a second each would hold up every poll of a device."""
    quick = [{"hardware": {"$regex": f"{number}.*a"}} for number in range(3)]
    parse_condition({"$or": quick})
    with pytest.raises(ConditionError, match="too long together"):
        parse_condition({"$or": quick * 40})


def test_a_pattern_on_the_elements_of_a_list_counts_once_for_each() -> None:
    """A device has up to 64 tags, and a rule may try each of them."""
    pattern = {"$regex": ".*a.*b"}
    parse_condition({"hardware": pattern})
    parse_condition({"tags": {"$elemMatch": {"$regex": "^floor-.*"}}})
    for value in ({"$elemMatch": pattern}, {"$all": [pattern]}, {"$not": {"$all": [{"$not": pattern}]}}):
        with pytest.raises(ConditionError, match="too long together"):
            parse_condition({"tags": value})


@pytest.mark.parametrize(
    "value",
    [
        [{"$regex": {"a": 1}}],
        {"$all": [[{"$regex": 1}]]},
        [[{"$regex": "("}]],
        {"$size": [{"$regex": 1}]},
        {"$not": {"$not": [{"$elemMatch": {"$gt": {"$regex": 10}}}]}},
    ],
)
def test_a_list_to_compare_with_is_no_rule_whatever_it_holds(value: object) -> None:
    """Found by fuzzing: what looks like a pattern in there is neither checked nor obeyed, nor counted."""
    rule = parse_condition({"tags": value})
    assert not rule.matches({"tags": ["a"]})
