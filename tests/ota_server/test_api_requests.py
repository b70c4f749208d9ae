"""Requests nobody should send: each ends in a problem document, and nothing moves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.calls import Caller
from tests.support.fleet import TestServer
from tests.support.state import fingerprint
from tests.support.tiny import TinyRelease

MEBIBYTE = 1024 * 1024
JSON = {"Content-Type": "application/json"}
WRITES = (
    ("PUT", "cohorts/eu", {"condition": {"region": "eu"}}),
    ("POST", "cohorts/preview", {"condition": {"region": "eu"}}),
    ("POST", "rollouts", {"model": "vision/digits", "version": "1.0.0"}),
    ("POST", "rollouts/ro-none/set-percent", {"percent_bp": 100}),
    ("PUT", "devices/device-1/tags", {"tags": ["a"]}),
)


@pytest.fixture(scope="module")
def manager(shared: TestServer) -> Caller:
    shared.publish(TinyRelease())
    Caller(shared.url, shared.tokens["enrolment"])("POST", "devices", {"id": "device-1"})
    return Caller(shared.url, shared.tokens["fleet_manager"])


@pytest.fixture
def unmoved(shared: TestServer, manager: Caller) -> Iterator[None]:  # noqa: ARG001 - sets the stage first
    before = fingerprint(shared.data)
    yield
    assert fingerprint(shared.data) == before


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_an_unknown_key_is_a_typing_error(
    method: str, path: str, body: dict[str, Any], manager: Caller
) -> None:
    """`max_eror_ppm` must not silently mean the default."""
    answer = manager(method, path, {**body, "pecent": 5})
    answer.refused(422, saying="pecent")


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_a_body_that_is_no_object_is_refused(
    method: str, path: str, body: dict[str, Any], manager: Caller
) -> None:
    del body
    for raw in (b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff\xfe{}", b"{" * 3000, b'{"a":' * 100_000):
        answer = manager(method, path, raw=raw, headers=JSON)
        assert answer.status in (400, 422), (raw[:20], answer)
        answer.refused(answer.status)


@pytest.mark.usefixtures("unmoved")
def test_a_deep_rule_is_refused(manager: Caller) -> None:
    for depth in (20, 400, 900):
        raw = b'{"condition":' + b'{"$not":' * depth + b"{}" + b"}" * depth + b"}"
        answer = manager("PUT", "cohorts/deep", raw=raw, headers=JSON)
        assert answer.status in (400, 422)


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
def test_numbers_json_does_not_have_are_refused(number: str, manager: Caller) -> None:
    for method, path, raw in (
        ("PUT", "cohorts/eu", f'{{"condition": {{"ram_bytes": {number}}}}}'),
        ("POST", "rollouts/ro-none/set-percent", f'{{"percent_bp": {number}}}'),
    ):
        answer = manager(method, path, raw=raw.encode(), headers=JSON)
        assert answer.status in (400, 404, 422), answer
        answer.refused(answer.status)


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize("raw", [b'{"id": "x", "id": "y"}', b'{"id": "x", "extra": {"a": 1, "a": 2}}'])
def test_a_device_that_says_a_key_twice_is_refused(raw: bytes, shared: TestServer) -> None:
    call = Caller(shared.url, shared.tokens["enrolment"])
    call("POST", "devices", raw=raw, headers=JSON).refused(422, "format", saying="twice")


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_a_body_beyond_its_bound_is_refused_however_its_length_is_told(
    method: str,
    path: str,
    body: dict[str, Any],
    chunked: bool,  # noqa: FBT001
    manager: Caller,
) -> None:
    data = json.dumps(body).encode() + b" " * MEBIBYTE
    pieces = (data[start : start + 65_536] for start in range(0, len(data), 65_536))
    answer = manager(method, path, raw=pieces if chunked else data, headers=JSON)
    answer.refused(413, "body-too-large")


@pytest.mark.usefixtures("unmoved")
def test_device_bodies_are_bounded_too(shared: TestServer) -> None:
    data = json.dumps({"id": "device-9"}).encode() + b" " * MEBIBYTE
    call = Caller(shared.url, shared.tokens["enrolment"])
    call("POST", "devices", raw=data, headers=JSON).refused(413, "body-too-large")
    call("POST", "devices", raw=iter([data]), headers=JSON).refused(413, "body-too-large")


# --- names -------------------------------------------------------------------------------------------------

TRICKS = [
    *(
        "Digits",
        "digits ",
        " digits",
        "dıgits",
        "ｄigits",
        "digits\u202e",
        "digits\u200b",
        "dіgits",
        "e\u0301",
    ),
    *("digits\x00", "digits\n", "..", "-x", "x" * 65, "a%2fb", "a\\b", "１", "\ufeffdigits"),
]


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize("name", TRICKS)
def test_look_alikes_and_paths_are_no_names(name: str, manager: Caller) -> None:
    encoded = quote(name, safe="")
    refusals = [
        manager("PUT", f"cohorts/{encoded}", {"condition": {"id": "x"}}),
        manager("GET", f"models/{encoded}/digits/releases"),
        manager("GET", f"models/vision/{encoded}/releases"),
        manager("POST", "rollouts", {"model": f"vision/{name}", "version": "1.0.0"}),
        manager("POST", "rollouts", {"model": "vision/digits", "version": "1.0.0", "cohort": name}),
        manager("GET", f"rollouts?model={encoded}"),
    ]
    for answer in refusals:
        assert answer.status in (400, 404, 405, 422), answer
        answer.refused(answer.status)


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize(
    "version", ["1.0", "v1.0.0", "1.0.0+build", "01.0.0", "１.0.0", "1.0.0\n", "1.0.0-", ""]
)
def test_look_alike_versions_are_not_published(version: str, manager: Caller) -> None:
    answer = manager(
        "POST", "rollouts", {"model": "vision/digits", "version": version, "strategy": "recreate"}
    )
    answer.refused(404, "not-found")
    if version:
        path = f"models/vision/digits/releases/{quote(version, safe='')}"
        manager("GET", path).refused(404)
        manager("POST", f"{path}/withdraw").refused(404)


@pytest.mark.usefixtures("unmoved")
def test_half_a_surrogate_pair_is_answered_in_utf8(manager: Caller) -> None:
    for method, path, body in WRITES:
        for text in (json.dumps({**body, "\ud800": 1}), json.dumps(dict.fromkeys(body, "�"))):
            answer = manager(method, path, raw=text.encode(), headers=JSON)
            answer.refused(422)
    manager("PUT", "cohorts/eu", {"condition": {"region": "\ud800"}}).refused(422)


# --- whatever comes ----------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        *("condition", "model", "version", "cohort", "strategy", "stages", "trial", "percent_bp", "tags"),
        *(
            "max_error_ppm",
            "auto_advance",
            "poll_interval_s",
            "manifest",
            "metadata",
            "id",
            "extra",
            "runtimes",
        ),
        *("format", "device", "live", "reports"),
    ]
)


@settings(max_examples=60)
@given(body=st.dictionaries(KEYS, VALUES, max_size=5))
def test_no_json_is_a_fault_of_the_server(body: dict[str, Any], shared: TestServer, manager: Caller) -> None:
    raw = json.dumps(body).encode()
    calls = [
        *((manager, method, path) for method, path, _ in WRITES if path != "cohorts/preview"),
        (Caller(shared.url, shared.tokens["enrolment"]), "POST", "devices"),
        (Caller(shared.url, shared.tokens["publisher:vision"]), "POST", "publishers/vision/releases"),
    ]
    for call, method, path in calls:
        answer = call(method, path, raw=raw, headers=JSON)
        assert answer.status < 500, (path, body, answer.body)


@settings(max_examples=60)
@given(text=st.text(min_size=1, max_size=20))
def test_no_path_is_a_fault_of_the_server(text: str, manager: Caller) -> None:
    encoded = quote(text, safe="", errors="replace")
    for template in (
        *("models/{}/digits/releases", "models/vision/digits/releases/{}", "devices/{}", "rollouts/{}", "{}"),
        *("cohorts/{}/preview", "devices?after={}", "devices?cohort={}", "devices?limit={}"),
    ):
        answer = manager("GET", template.format(encoded))
        assert answer.status < 500, (template, text, answer.body)


def test_unknown_routes_and_methods_are_problems(manager: Caller) -> None:
    manager("GET", "nothing").refused(404)
    manager("GET", "/nothing").refused(404)
    answer = manager("DELETE", "rollouts")
    answer.refused(405)
    assert "GET" in answer.headers["allow"]
    manager("POST", "rollouts/ro-none/explode").refused(422)


# --- pages -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fleet(shared: TestServer, manager: Caller) -> list[str]:
    enrolment = Caller(shared.url, shared.tokens["enrolment"])
    ids = [f"page-{number:02}" for number in range(25)]
    for number, device in enumerate(ids):
        region = "eu" if number % 2 else "us"
        assert enrolment("POST", "devices", {"id": device, "region": region}).status == 201
    rule = {"condition": {"id": {"$regex": "^page-"}, "region": "eu"}}
    manager("PUT", "cohorts/paged", rule)
    return ids


def pages(manager: Caller, query: str) -> list[list[str]]:
    found, after = [], ""
    while True:
        answer = manager("GET", f"devices?after={after}&{query}").json
        found.append([device["id"] for device in answer["devices"]])
        if answer["next"] is None:
            return found
        after = answer["next"]


@pytest.mark.parametrize("limit", [1, 7, 25, 26, 27, 1000])
def test_pages_hold_every_device_once(limit: int, manager: Caller, fleet: list[str]) -> None:
    found = pages(manager, f"limit={limit}")
    assert [device for page in found for device in page] == ["device-1", *fleet]
    assert all(len(page) == limit for page in found[:-1])
    assert found[-1]


@pytest.mark.parametrize("limit", [1, 5, 12, 13])
def test_pages_of_a_cohort_hold_its_devices(limit: int, manager: Caller, fleet: list[str]) -> None:
    found = pages(manager, f"limit={limit}&cohort=paged")
    assert [device for page in found for device in page] == fleet[1::2]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=-1", "limit=x", f"after={'x' * 129}"])
def test_pages_are_bounded(query: str, manager: Caller) -> None:
    manager("GET", f"devices?{query}").refused(422)


def test_an_unknown_cohort_has_no_page(manager: Caller) -> None:
    manager("GET", "devices?cohort=nobody").refused(404, "not-found", saying="ferry cohort list")
