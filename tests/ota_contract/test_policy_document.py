from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from ota_contract.documents import canonical_json
from ota_contract.errors import ConditionError, FormatError, InvalidNameError, UnknownFormatError
from ota_contract.policy import STANDARD_TRIAL, Policy, parse_policy, policy_to_json
from tests.ota_contract.contract_strategies import policies

REF: dict[str, Any] = {"version": "1.0.0", "counter": 1, "manifest_sha256": "a" * 64}


def document(**rule: Any) -> dict[str, Any]:
    return {
        "format": "ferry.policy/1",
        "publisher": "vision",
        "model": "digits",
        "revision": 3,
        "poll_interval_s": 300,
        "rules": [{"cohort": "everyone", "condition": {}, "base": REF, **rule}],
    }


@given(policies())
def test_a_policy_is_read_back_and_written_the_same(policy: Policy) -> None:
    data = canonical_json(policy_to_json(policy))
    assert parse_policy(json.loads(data)) == policy
    assert canonical_json(policy_to_json(parse_policy(json.loads(data)))) == data


def test_a_rule_says_little_by_default() -> None:
    (rule,) = parse_policy(document()).rules
    assert (rule.candidate, rule.threshold_bp, rule.frozen, rule.trial) == (None, 0, False, STANDARD_TRIAL)


def test_unknown_keys_are_ignored() -> None:
    policy = document(later={"x": 1}, base={**REF, "later": 1}, trial={"inferences": 5, "later": 1})
    assert parse_policy({**policy, "later": []}).rules[0].trial.inferences == 5


@pytest.mark.parametrize("format_", ["ferry.policy/2", "ferry.release/1"])
def test_an_unknown_format_is_told_from_a_malformed_policy(format_: str) -> None:
    """A device does nothing with it, instead of raising an alarm."""
    with pytest.raises(UnknownFormatError):
        parse_policy({**document(), "format": format_})


@pytest.mark.parametrize(
    "rule",
    [
        {"cohort": "A cohort"},
        {"cohort": None},
        {"condition": None},
        {"condition": []},
        {"condition": {"a": {"$unknown": 1}}},
        {"condition": {"$not": {"a": {"$unknown": 1}}}},
        {"condition": {"a": {"$regex": "(a*)*b"}}},
        {"base": {**REF, "version": "1"}},
        {"base": {**REF, "counter": 0}},
        {"base": {**REF, "manifest_sha256": "x"}},
        {"candidate": 1},
        {"strategy": "big_bang"},
        {"threshold_bp": -1},
        {"threshold_bp": 10_001},
        {"threshold_bp": 0.5},
        {"frozen": 1},
        {"salt": "x" * 65},
        {"salt": "\ud800"},
        {"rollout": "a\nb"},
        {"trial": {"max_starts": 0}},
        {"trial": {"max_error_ppm": 1_000_001}},
        {"trial": []},
    ],
    ids=repr,
)
def test_a_malformed_rule_is_a_format_error(rule: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="rollout policy"):
        parse_policy(document(**rule))


@pytest.mark.parametrize(
    "change",
    [
        {"publisher": ".."},
        {"model": 1},
        {"revision": -1},
        {"poll_interval_s": 0},
        {"poll_interval_s": 7 * 24 * 3600 + 1},
        {"rules": {}},
        {"rules": [1]},
        {"rules": document()["rules"] * 65},
    ],
    ids=lambda change: repr(change)[:40],
)
def test_a_malformed_policy_is_a_format_error(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        parse_policy({**document(), **change})


def test_the_cause_is_kept() -> None:
    with pytest.raises(FormatError) as refusal:
        parse_policy(document(condition={"a": {"$unknown": 1}}))
    assert isinstance(refusal.value.__cause__, ConditionError)
    with pytest.raises(FormatError) as refusal:
        parse_policy({**document(), "model": ".."})
    assert isinstance(refusal.value.__cause__, InvalidNameError)


@pytest.mark.parametrize("value", [None, [], "text", 1])
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(FormatError):
        parse_policy(value)
