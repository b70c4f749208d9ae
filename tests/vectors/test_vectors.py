"""Runs the language-neutral vectors against `ota_contract`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from growthbook.core import evalCondition, gbhash

from ota_contract.assignment import assign
from ota_contract.bucketing import bucket
from ota_contract.conditions import _CHECKS, _GROUPS, _TYPES, parse_condition
from ota_contract.device import Attributes, attributes_from
from ota_contract.documents import canonical_json, reader_of
from ota_contract.errors import ConditionError, FormatError, UnknownFormatError
from ota_contract.manifest import dump_release, parse_release
from ota_contract.policy import parse_policy

FOLDER = Path(__file__).parent
FILES = ("bucketing", "conditions", "assignment", "canonical_json", "manifest")

# Where GrowthBook's SDK for Python answers otherwise, and why ours is kept.
DIFFERENCES = {
    "objects by value, in any order, 1": "compares the order of keys, which signed JSON does not keep",
    "$type null, 2": "has no undefined: a missing attribute is null to it",
    "$type undefined, 2": "the same",
}


def cases(name: str) -> list[Any]:
    content = json.loads((FOLDER / f"{name}.json").read_bytes())
    return [pytest.param(case, id=case["name"]) for case in content["cases"]]


def device_of(device: dict[str, Any]) -> Attributes:
    """A device as it states itself, with the tags a fleet manager gave it."""
    return replace(attributes_from(reader_of(device, what="device")), tags=tuple(device["tags"]))


@pytest.mark.parametrize("case", cases("bucketing"))
def test_bucketing(case: dict[str, Any]) -> None:
    assert bucket(case["salt"], case["device_id"]) == case["bucket"]
    oracle = gbhash(case["salt"], case["device_id"], 2)
    assert oracle is not None
    assert round(oracle * 10_000) == case["bucket"]


@pytest.mark.parametrize("case", cases("conditions"))
def test_conditions(case: dict[str, Any]) -> None:
    if case.get("refused"):
        with pytest.raises(ConditionError):
            parse_condition(case["rule"])
        return
    assert parse_condition(case["rule"]).matches(case["attributes"]) is case["matches"]
    oracle = evalCondition(case["attributes"], case["rule"])
    assert (oracle is case["matches"]) is (case["name"] not in DIFFERENCES)


@pytest.mark.parametrize("case", cases("assignment"))
def test_assignment(case: dict[str, Any]) -> None:
    assignment = assign(
        parse_policy(case["policy"]), device_of(case["device"]), live_version=case["live_version"]
    )
    release = assignment.release
    assert (None if release is None else release.version) == case["version"]
    assert assignment.arm.value == case["arm"]
    assert (assignment.rollout, assignment.cohort) == (case["rollout"], case["cohort"])


@pytest.mark.parametrize("case", cases("canonical_json"))
def test_canonical_json(case: dict[str, Any]) -> None:
    assert canonical_json(case["value"]) == case["canonical"].encode()


@pytest.mark.parametrize("case", cases("manifest"))
def test_manifest(case: dict[str, Any]) -> None:
    data = case["document"].encode()
    if case["accepted"] == "yes":
        release = parse_release(data)
        if "canonical_sha256" in case:
            assert hashlib.sha256(dump_release(release)).hexdigest() == case["canonical_sha256"]
            assert dump_release(release) == data
    else:
        with pytest.raises(FormatError) as refusal:
            parse_release(data)
        assert isinstance(refusal.value, UnknownFormatError) is (case["accepted"] == "unknown_format")


def test_every_operator_has_a_case_that_matches_and_one_that_does_not() -> None:
    seen: dict[str, set[bool]] = {}
    for parameter in cases("conditions"):
        (case,) = parameter.values
        for operator in _keys(case["rule"]):
            seen.setdefault(operator, set()).add(case.get("matches", False))
    for operator in (*_CHECKS, *_GROUPS):
        assert seen[operator] == {True, False}
    types = {case.values[0]["rule"]["a"]["$type"] for case in cases("conditions") if "$type" in case.id}
    assert types == set(_TYPES)


@pytest.mark.parametrize("name", FILES)
def test_names_are_unique_and_files_are_described(name: str) -> None:
    content = json.loads((FOLDER / f"{name}.json").read_bytes())
    names = [case["name"] for case in content["cases"]]
    assert len(set(names)) == len(names)
    assert content["about"]
    assert f"`{name}.json`" in (FOLDER / "README.md").read_text(encoding="utf-8")
    assert {path.stem for path in FOLDER.glob("*.json")} == set(FILES)


def _keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {key for key in value if key.startswith("$")}.union(*map(_keys, value.values()))
    return set().union(*map(_keys, value)) if isinstance(value, list) else set()
