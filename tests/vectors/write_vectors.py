"""Writes the vectors: cases from here, expected values from `ota_contract`.

Run it only to add cases: `python tests/vectors/write_vectors.py`. Then look at the difference: a line
that changes, instead of being new, says that the protocol changed.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1]))

from ota_contract.assignment import assign  # noqa: E402
from ota_contract.bucketing import bucket  # noqa: E402
from ota_contract.conditions import parse_condition  # noqa: E402
from ota_contract.documents import canonical_json  # noqa: E402
from ota_contract.errors import ConditionError, FormatError, UnknownFormatError  # noqa: E402
from ota_contract.manifest import parse_release  # noqa: E402
from ota_contract.policy import parse_policy  # noqa: E402
from tests.ota_contract.release_samples import sample_json  # noqa: E402
from tests.vectors.test_vectors import device_of  # noqa: E402

Case = dict[str, Any]

RULES: list[tuple[str, Any, list[dict[str, Any]]]] = [
    ("everyone", {}, [{}, {"region": "eu"}]),
    ("equality", {"region": "eu"}, [{"region": "eu"}, {"region": "EU"}, {}, {"region": ["eu"]}]),
    ("null is missing", {"region": None}, [{}, {"region": None}, {"region": ""}]),
    ("numbers by value", {"n": 1}, [{"n": 1}, {"n": 1.0}, {"n": True}, {"n": "1"}]),
    ("booleans are no numbers", {"b": True}, [{"b": True}, {"b": 1}, {"b": False}, {}]),
    ("lists by value", {"a": [1, "x"]}, [{"a": [1, "x"]}, {"a": ["x", 1]}, {"a": [True, "x"]}, {"a": 1}]),
    ("objects by value, in any order", {"a": {"x": 1, "y": 2}}, [{"a": {"y": 2, "x": 1}}, {"a": {"x": 1}}]),
    ("several attributes", {"a": 1, "b": 2}, [{"a": 1, "b": 2}, {"a": 1}]),
    ("dotted path", {"v.onnx": "1.20"}, [{"v": {"onnx": "1.20"}}, {"v.onnx": "1.20"}, {"v": "onnx"}]),
    ("path into a list", {"tags.0": "x", "tags.length": 1}, [{"tags": ["x"]}, {"tags": ["x", "y"]}]),
    ("$eq", {"a": {"$eq": "x"}}, [{"a": "x"}, {"a": "y"}, {}]),
    ("$eq null", {"a": {"$eq": None}}, [{}, {"a": None}, {"a": 0}]),
    ("$ne", {"a": {"$ne": "x"}}, [{"a": "x"}, {"a": "y"}, {}]),
    ("$in", {"a": {"$in": ["x", 1]}}, [{"a": "x"}, {"a": 1}, {"a": True}, {"a": ["y", "x"]}, {"a": []}, {}]),
    ("$in null", {"a": {"$in": [None]}}, [{}, {"a": None}, {"a": 0}]),
    ("$nin", {"a": {"$nin": ["x"]}}, [{"a": "x"}, {"a": "y"}, {"a": ["y", "x"]}, {}]),
    ("$lt", {"a": {"$lt": 5}}, [{"a": 4}, {"a": 5}, {"a": "4"}, {"a": True}, {"a": None}, {}]),
    ("$lte", {"a": {"$lte": 5}}, [{"a": 5}, {"a": 5.5}, {}]),
    ("$gt", {"a": {"$gt": 5}}, [{"a": 6}, {"a": 5}, {"a": "6"}, {}]),
    ("$gte", {"a": {"$gte": 5}}, [{"a": 5}, {"a": 4.9}]),
    ("order of texts", {"a": {"$gt": "b"}}, [{"a": "c"}, {"a": "B"}, {"a": 9}, {"a": "ä"}]),
    ("order by UTF-16 units", {"a": {"$lt": "\uffee"}}, [{"a": "\U0001f600"}, {"a": "\uffef"}]),
    (
        "$veq",
        {"v": {"$veq": "1.2.3"}},
        [{"v": "1.2.3"}, {"v": "v1.2.3"}, {"v": "1.2.3+b7"}, {"v": "1.2"}, {}],
    ),
    ("$vne", {"v": {"$vne": "1.2.3"}}, [{"v": "1.2.3"}, {"v": "1.2.3-a"}, {"v": 1}, {}]),
    (
        "$vlt",
        {"v": {"$vlt": "1.10.0"}},
        [{"v": "1.9.0"}, {"v": "1.10.0-rc.1"}, {"v": "1.10.0"}, {"v": 1}, {}],
    ),
    ("$vlte", {"v": {"$vlte": "1.10.0"}}, [{"v": "1.10.0"}, {"v": "1.10.1"}]),
    ("$vgt", {"v": {"$vgt": "1.9.0"}}, [{"v": "1.10.0"}, {"v": "1.9.0"}, {"v": "1.9.0-z"}, {}]),
    ("$vgte", {"v": {"$vgte": "1.9.0"}}, [{"v": "1.9.0"}, {"v": "1.8.9"}]),
    ("$regex", {"a": {"$regex": "^cam-[0-9]+$"}}, [{"a": "cam-7"}, {"a": "cam-x"}, {"a": 7}, {}]),
    ("$regex searches", {"a": {"$regex": "pi|jetson"}}, [{"a": "a jetson nano"}, {"a": "x86"}]),
    ("$exists", {"a": {"$exists": True}}, [{"a": 0}, {"a": None}, {}]),
    ("$exists false", {"a": {"$exists": False}}, [{"a": 0}, {"a": None}, {}]),
    ("$type string", {"a": {"$type": "string"}}, [{"a": "x"}, {"a": 1}]),
    ("$type number", {"a": {"$type": "number"}}, [{"a": 1}, {"a": 1.5}, {"a": True}]),
    ("$type boolean", {"a": {"$type": "boolean"}}, [{"a": True}, {"a": 1}]),
    ("$type array", {"a": {"$type": "array"}}, [{"a": []}, {"a": {}}]),
    ("$type object", {"a": {"$type": "object"}}, [{"a": {}}, {"a": []}]),
    ("$type null", {"a": {"$type": "null"}}, [{"a": None}, {}]),
    ("$type undefined", {"a": {"$type": "undefined"}}, [{"a": None}, {}]),
    ("$not of a value", {"a": {"$not": {"$gt": 5}}}, [{"a": 6}, {"a": 5}, {}]),
    (
        "$elemMatch of a value",
        {"a": {"$elemMatch": {"$gt": 5}}},
        [{"a": [1, 6]}, {"a": [1]}, {"a": 6}, {"a": []}],
    ),
    (
        "$elemMatch of fields",
        {"a": {"$elemMatch": {"x": 1}}},
        [{"a": [{"x": 1}]}, {"a": [{"x": 2}]}, {"a": [1]}],
    ),
    (
        "$elemMatch of a group",
        {"a": {"$elemMatch": {"$or": [{"x": 1}, {"y": 1}]}}},
        [{"a": [{"y": 1}]}, {"a": [{}]}],
    ),
    ("$elemMatch passes over null", {"a": {"$elemMatch": {"$eq": None}}}, [{"a": [None]}]),
    ("$all", {"a": {"$all": ["x", {"$gt": 5}]}}, [{"a": ["x", 6]}, {"a": ["x"]}, {"a": "x"}]),
    ("$all of nothing", {"a": {"$all": []}}, [{"a": []}, {"a": "x"}]),
    ("$size", {"a": {"$size": 2}}, [{"a": [1, 2]}, {"a": [1]}, {"a": "xy"}, {}]),
    ("$size compared", {"a": {"$size": {"$gt": 1}}}, [{"a": [1, 2]}, {"a": [1]}]),
    ("several operators", {"a": {"$gt": 1, "$lt": 5}}, [{"a": 3}, {"a": 5}]),
    ("$and", {"$and": [{"a": 1}, {"b": 1}]}, [{"a": 1, "b": 1}, {"a": 1}]),
    ("$and of nothing", {"$and": []}, [{}]),
    ("$or", {"$or": [{"a": 1}, {"b": 1}]}, [{"b": 1}, {}]),
    ("$or of nothing", {"$or": []}, [{}]),
    ("$nor", {"$nor": [{"a": 1}, {"b": 1}]}, [{"b": 1}, {}]),
    ("$nor of nothing", {"$nor": []}, [{}]),
    ("$not of a rule", {"$not": {"a": 1}}, [{"a": 1}, {"a": 2}, {}]),
    (
        "groups beside attributes",
        {"a": 1, "$or": [{"b": 1}, {"c": 1}]},
        [{"a": 1, "c": 1}, {"a": 1}, {"c": 1}],
    ),
    ("no list of rules", [], []),
    ("unknown operator", {"a": {"$where": 1}}, []),
    ("unknown operator inside $not", {"$not": {"a": {"$where": 1}}}, []),
    ("unknown group", {"$xor": []}, []),
    ("empty object as a value", {"a": {}}, []),
    ("operators among plain keys", {"a": {"$gt": 1, "b": 2}}, []),
    ("operators below plain keys", {"a": {"b": {"$gt": 1}}}, []),
    ("$eq of a list", {"a": {"$eq": [1]}}, []),
    ("$in of a text", {"a": {"$in": "x"}}, []),
    ("$gt of a boolean", {"a": {"$gt": True}}, []),
    ("$vgt of a number", {"a": {"$vgt": 1}}, []),
    ("$exists of a number", {"a": {"$exists": 1}}, []),
    ("exponential pattern", {"a": {"$regex": "(a|aa)*b"}}, []),
    ("backreference", {"a": {"$regex": "(a)\\1"}}, []),
    ("malformed pattern", {"a": {"$regex": "("}}, []),
]

REF_OLD = {"version": "1.0.0", "counter": 1, "manifest_sha256": "1" * 64}
REF_NEW = {"version": "1.1.0", "counter": 2, "manifest_sha256": "2" * 64}


def policy(*rules: dict[str, Any]) -> dict[str, Any]:
    head = {"format": "ferry.policy/1", "publisher": "vision", "model": "digits", "revision": 7}
    return {**head, "poll_interval_s": 300, "rules": list(rules)}


CANARY = {
    "cohort": "europe",
    "condition": {"region": "eu"},
    "base": REF_OLD,
    "candidate": REF_NEW,
    "rollout": "r1",
    "salt": "r1",
    "threshold_bp": 5000,
}
SETTLED = {"cohort": "everyone", "condition": {}, "base": REF_OLD}


def buckets() -> list[Case]:
    pairs = [("", ""), ("r1", "camera-7"), ("r1", "camera-8"), ("r2", "camera-7"), ("0b2f", "00:1A:2b.x_y")]
    pairs += [("rollout-ä", "camera-7"), ("\U0001f600", "camera-7"), ("r" * 64, "d" * 128)]
    pairs += [("fleet", f"device-{index}") for index in range(12)]
    return [
        {
            "name": f"{salt[:12]} {device[:12]}",
            "salt": salt,
            "device_id": device,
            "bucket": bucket(salt, device),
        }
        for salt, device in pairs
    ]


def conditions() -> list[Case]:
    cases: list[Case] = []
    for name, rule, devices in RULES:
        try:
            condition = parse_condition(rule)
        except ConditionError:
            cases.append({"name": name, "rule": rule, "refused": True})
            continue
        for index, attributes in enumerate(devices):
            matches = condition.matches(attributes)
            cases.append(
                {"name": f"{name}, {index + 1}", "rule": rule, "attributes": attributes, "matches": matches}
            )
    return cases


def assignments() -> list[Case]:
    cases: list[Case] = []
    no_base = {**CANARY, "base": None}
    policies = {
        "half of a cohort": policy(CANARY, SETTLED),
        "all of a cohort": policy({**CANARY, "threshold_bp": 10_000}, SETTLED),
        "none of a cohort": policy({**CANARY, "threshold_bp": 0}, SETTLED),
        "frozen": policy({**CANARY, "frozen": True}, SETTLED),
        "no base": policy(no_base, SETTLED),
        "no base and nothing below": policy(no_base),
        "by tag": policy(
            {**CANARY, "condition": {"tags": {"$elemMatch": {"$eq": "beta"}}}, "threshold_bp": 10_000}
        ),
        "no rules": policy(),
    }
    for name, document in policies.items():
        for device_id in ("camera-7", "camera-8"):
            for region, tags, live in (("eu", ["beta"], "1.0.0"), ("us", [], "1.1.0"), ("eu", [], "1.1.0")):
                device = {"id": device_id, "region": region, "tags": tags}
                assignment = assign(parse_policy(document), device_of(device), live_version=live)
                release = assignment.release
                cases.append(
                    {
                        "name": f"{name}: {device_id} in {region}, tags {tags}, on {live}",
                        "policy": document,
                        "device": device,
                        "live_version": live,
                        "version": None if release is None else release.version,
                        "arm": assignment.arm.value,
                        "rollout": assignment.rollout,
                        "cohort": assignment.cohort,
                    }
                )
    return cases


def canonical() -> list[Case]:
    values: list[tuple[str, Any]] = [
        ("nothing", {}),
        ("keys are sorted by code point", {"b": 1, "a": 2, "B": 3, "": 4, "ä": 5, "10": 6, "9": 7}),
        ("at every level", {"a": {"z": 1, "y": [{"x": 1, "w": 2}]}}),
        ("letters stay as they are", "ä€\U0001f600"),
        ("what must be escaped is", '"\\\b\f\n\r\t\u0000\u001f'),
        ("a slash and DEL need no escape", "/\u007f"),
        ("constants", [None, True, False]),
        ("integers", [0, -1, 9007199254740993, 2**70]),
        ("fractions, shortest form", [0.5, -2.25, 0.1, 1e-7, 123456.789]),
        ("an integral float keeps its point", [1.0, -0.0]),
    ]
    return [
        {"name": name, "value": value, "canonical": canonical_json(value).decode()} for name, value in values
    ]


def manifests() -> list[Case]:
    good = sample_json()
    texts = {
        "canonical": canonical_json(good).decode(),
        "with spaces and in another order": json.dumps(dict(reversed(good.items())), indent=1),
        "with a key of a later version": json.dumps({**good, "later": {"x": 1}}),
        "a later format": json.dumps({**good, "format": "ferry.release/2"}),
        "no format": json.dumps({key: value for key, value in good.items() if key != "format"}),
        "a floor above the counter": json.dumps({**good, "floor": 3}),
        "a version with a leading zero": json.dumps({**good, "version": "01.0.0"}),
        "a key twice": json.dumps(good)[:-1] + ', "counter": 2}',
        "a number that is none": json.dumps(good).replace('"counter": 2', '"counter": NaN'),
        "not an object": "[]",
        "not JSON": "{",
    }
    golden = copy.deepcopy(good)
    golden["golden"]["file"]["path"] = "../golden.json"
    texts["a path out of the package"] = json.dumps(golden)
    cases: list[Case] = []
    for name, text in texts.items():
        case: Case = {"name": name, "document": text}
        try:
            parse_release(text.encode())
            case["accepted"] = "yes"
        except UnknownFormatError:
            case["accepted"] = "unknown_format"
        except FormatError:
            case["accepted"] = "no"
        if name == "canonical":
            case["canonical_sha256"] = hashlib.sha256(text.encode()).hexdigest()
        cases.append(case)
    return cases


FILES = {
    "bucketing": ("Which bucket of a rollout a device falls into.", buckets),
    "conditions": ("Whom a cohort rule selects, and which rules are refused.", conditions),
    "assignment": ("Which release of a policy a device takes.", assignments),
    "canonical_json": ("The one byte string of a JSON value.", canonical),
    "manifest": ("Which release manifests are accepted.", manifests),
}


def main() -> None:
    """Write every file."""
    for name, (about, cases) in FILES.items():
        rows = ",\n".join(f"  {json.dumps(case, ensure_ascii=True)}" for case in cases())
        text = f'{{"about": {json.dumps(about)}, "cases": [\n{rows}\n]}}\n'
        (FOLDER / f"{name}.json").write_text(text, encoding="ascii")


if __name__ == "__main__":
    main()
