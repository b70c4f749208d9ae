"""Devices and cohorts: who is known, what counts once, and what people say of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ota_contract.assignment import Arm
from ota_contract.device import Attributes
from ota_contract.report import Batch, Report, UpdateState, dump_batch
from ota_server.adapters.report_records import SqlReports
from tests.support.calls import Caller
from tests.support.fleet import TestServer
from tests.support.simulated import DIGITS, NOON, Simulated, enrol_fleet, transition, window
from tests.support.state import dump_database, fingerprint
from tests.support.tiny import TinyRelease


@pytest.fixture
def manager(server: TestServer) -> Caller:
    return Caller(server.url, server.tokens["fleet_manager"])


@pytest.fixture
def device(server: TestServer) -> Simulated:
    return enrol_fleet(server, ["camera-1"])[0]


# --- enrolment ---------------------------------------------------------------------------------------------


def test_a_device_enrols_with_what_it_states(server: TestServer, manager: Caller) -> None:
    body = {
        "id": "cam:7.A_b-1",
        "hardware": "rpi5",
        "os": "linux",
        "arch": "aarch64",
        "ram_bytes": 8 * 10**9,
        "runtimes": {"onnx": "1.22.0"},
        "region": "eu",
        "extra": {"floor": 3, "indoor": True, "site": "Zürich", "lux": 1.5},
        "tags": ["self-given"],
        "unknown": 1,
    }
    answer = Caller(server.url, server.tokens["enrolment"])("POST", "devices", body)
    assert answer.status == 201
    assert set(answer.json) == {"token"}
    shown = manager("GET", "devices/cam:7.A_b-1").json
    assert {key: shown[key] for key in body if key not in ("tags", "unknown")} == {
        key: value for key, value in body.items() if key not in ("tags", "unknown")
    }
    assert shown["tags"] == []
    assert shown["last_seen"] is None
    assert shown["live"] == {}


def test_an_id_is_enrolled_once(server: TestServer, device: Simulated) -> None:
    """Whoever asks again may not be that device."""
    before = fingerprint(server.data)
    again = Caller(server.url, server.tokens["enrolment"])("POST", "devices", {"id": device.id})
    again.refused(409, "device-exists", saying="ferry device forget camera-1")
    assert fingerprint(server.data) == before
    assert device.send().status == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": ""},
        {"id": "a/b"},
        {"id": "ünit"},
        {"id": "x" * 129},
        {"id": "a\n"},
        {"id": 1},
        {"id": "a", "ram_bytes": -1},
        {"id": "a", "ram_bytes": 2**63},
        {"id": "a", "ram_bytes": 1.5},
        {"id": "a", "hardware": "x" * 65},
        {"id": "a", "hardware": "\x1b[2J"},
        {"id": "a", "runtimes": {str(number): "1" for number in range(17)}},
        {"id": "a", "runtimes": ["onnx"]},
        {"id": "a", "extra": {"x": [1]}},
        {"id": "a", "extra": {"x": None}},
        {"id": "a", "extra": {str(number): 1 for number in range(65)}},
    ],
)
def test_a_statement_out_of_bounds_is_refused(body: dict[str, Any], server: TestServer) -> None:
    before = fingerprint(server.data)
    Caller(server.url, server.tokens["enrolment"])("POST", "devices", body).refused(422)
    assert fingerprint(server.data) == before


def test_a_forgotten_device_is_nobody_until_it_enrols_again(
    server: TestServer, manager: Caller, device: Simulated
) -> None:
    device.live[DIGITS] = "1.0.0"
    device.send(window("w1", 10))
    assert manager("DELETE", f"devices/{device.id}").status == 204
    device.send().refused(401, "authentication")
    manager("GET", f"devices/{device.id}").refused(404, "not-found")
    manager("DELETE", f"devices/{device.id}").refused(404, "not-found")
    again = enrol_fleet(server, [device.id])[0]
    device.send().refused(401, "authentication")
    assert again.send().status == 200
    shown = manager("GET", f"devices/{device.id}").json
    assert shown["live"] == {}
    assert len(shown["history"]) == 1  # what it reported still counts


# --- reports -----------------------------------------------------------------------------------------------


def test_a_report_tells_what_is_live_and_when_it_came(
    server: TestServer, manager: Caller, device: Simulated
) -> None:
    device.live[DIGITS] = "1.0.0"
    server.clock.advance(hours=1)
    assert device.send(transition("t1", UpdateState.HEALTHY)).json == {"accepted": 1, "tags": []}
    shown = manager("GET", f"devices/{device.id}").json
    assert shown["live"] == {"vision/digits": "1.0.0"}
    assert shown["last_seen"] == server.clock().isoformat().replace("+00:00", "Z")
    assert [report["id"] for report in shown["history"]] == ["t1"]
    device.live.clear()
    device.send()
    assert manager("GET", f"devices/{device.id}").json["live"] == {}


def test_the_same_batch_twice_counts_once(server: TestServer, device: Simulated) -> None:
    reports = (transition("t1", UpdateState.HEALTHY), window("w1", 100, 3))
    assert device.send(*reports).json["accepted"] == 2
    before = dump_database(server.data)
    assert device.send(*reports).json["accepted"] == 0
    assert dump_database(server.data) == before


def test_one_batch_may_hold_a_report_twice(device: Simulated) -> None:
    assert device.send(window("w1", 1), window("w1", 1), window("w2", 1)).json["accepted"] == 2


def test_ids_are_unique_on_a_device_not_in_the_fleet(server: TestServer) -> None:
    first, second = enrol_fleet(server, ["a", "b"])
    assert first.send(window("w1", 1)).json["accepted"] == 1
    assert second.send(window("w1", 1)).json["accepted"] == 1


def test_a_device_cannot_report_for_another(server: TestServer) -> None:
    first, second = enrol_fleet(server, ["a", "b"])
    before = fingerprint(server.data)
    batch = Batch(device=second.attributes, live={}, reports=(window("w1", 1),))
    answer = first.call("POST", "reports", raw=dump_batch(batch))
    answer.refused(403, "forbidden", saying="a cannot report for b")
    assert fingerprint(server.data) == before


def _malformed(change: Callable[[dict[str, Any]], None]) -> bytes:
    batch = Batch(device=Attributes(device_id="camera-1"), live={}, reports=(window("w1", 10, 1),))
    document = json.loads(dump_batch(batch))
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda it: it.update(format="ferry.reports/2"), "unknown-format"),
        (lambda it: it.pop("format"), "format"),
        (lambda it: it["reports"].append({}), "format"),
        (lambda it: it["reports"][0]["window"].update(errors=11), "format"),
        (lambda it: it["reports"][0]["window"].update(inferences=10**13), "format"),
        (lambda it: it["reports"][0]["window"].update(started="yesterday"), "format"),
        (lambda it: it["reports"][0].update(model="digits"), "format"),
        (lambda it: it["reports"][0].update(id="x" * 65), "format"),
        (lambda it: it.update(reports=it["reports"] * 257), "format"),
        (lambda it: it.update(live={"vision/digits": "one"}), "format"),
        (lambda it: it.update(device={}), "format"),
    ],
)
def test_a_malformed_batch_is_refused_whole(
    change: Callable[[dict[str, Any]], None], kind: str, server: TestServer, device: Simulated
) -> None:
    before = fingerprint(server.data)
    device.call("POST", "reports", raw=_malformed(change)).refused(422, kind)
    assert fingerprint(server.data) == before


def test_an_oversized_batch_is_refused(server: TestServer, device: Simulated) -> None:
    before = fingerprint(server.data)
    raw = _malformed(lambda _: None) + b" " * 256 * 1024
    device.call("POST", "reports", raw=raw).refused(413, "body-too-large")
    assert fingerprint(server.data) == before


# What counts is a set of reports, however they are cut into batches and how often these are sent.

ROLLOUT = "ro-1"
STORY = (
    transition("s0", UpdateState.OFFERED, rollout=ROLLOUT),
    transition("s1", UpdateState.DOWNLOADING, rollout=ROLLOUT, at=NOON + timedelta(days=365)),
    transition("s2", UpdateState.LIVE_ON_TRIAL, rollout=ROLLOUT, at=NOON + timedelta(days=365)),
    window("s3", 100, 7, rollout=ROLLOUT),
    transition("s4", UpdateState.HEALTHY, rollout=ROLLOUT),  # NTP has set the clock right meanwhile
    window("s5", 50, 0, rollout=ROLLOUT, arm=Arm.CONTROL),
    window("s6", 9, 9, rollout="ro-2"),
    window("s7", 9, 9),
)


@pytest.fixture(scope="module")
def crowd(shared: TestServer) -> Iterator[Simulated]:
    """A fresh device for each example."""
    numbers = iter(range(10**6))

    def devices() -> Iterator[Simulated]:
        while True:
            yield enrol_fleet(shared, [f"crowd-{next(numbers)}"])[0]

    return devices()


@settings(max_examples=40)
@given(sendings=st.lists(st.tuples(st.integers(0, len(STORY)), st.integers(1, len(STORY))), max_size=5))
def test_duplicates_and_batching_change_no_count(
    sendings: list[tuple[int, int]], shared: TestServer, crowd: Iterator[Simulated]
) -> None:
    """A device sends its queue in order, and again whatever was not acknowledged."""
    device = next(crowd)
    story = [_renamed(report, device.id) for report in STORY]
    sent = acknowledged = 0
    for start, count in [*sendings, (0, len(story))]:
        end = max(sent, min(start, sent) + count)
        acknowledged += device.send(*story[min(start, sent) : end]).json["accepted"]
        sent = min(end, len(story))
    assert acknowledged == len(story)
    with shared.services.registry.read() as records:
        counts = records.reports.counts(_rollout(device.id))
    assert (counts.devices_exposed, counts.devices_healthy, counts.devices_failed) == (1, 1, 0)
    assert (counts.candidate.inferences, counts.candidate.errors) == (100, 7)
    assert (counts.control.inferences, counts.control.errors) == (50, 0)


def _renamed(report: Report, suffix: str) -> Report:
    return replace(report, rollout=report.rollout and f"{report.rollout}-{suffix}")


def _rollout(suffix: str) -> Any:
    class Named:
        id = f"{ROLLOUT}-{suffix}"

    return Named()


def test_the_last_state_to_arrive_counts_not_the_latest_by_the_devices_clock(
    server: TestServer, device: Simulated
) -> None:
    """A clock that was a year ahead and is set right must not hold a rollout up for a year."""
    device.send(*(_renamed(report, "x") for report in STORY[:3]))
    device.send(_renamed(STORY[4], "x"))
    with server.services.registry.read() as records:
        assert isinstance(records.reports, SqlReports)
        assert records.reports.counts(_rollout("x")).devices_healthy == 1


@pytest.mark.parametrize(
    ("states", "healthy", "failed", "exposed"),
    [
        ([UpdateState.OFFERED], 0, 0, 0),
        ([UpdateState.INCOMPATIBLE], 0, 0, 0),
        ([UpdateState.DOWNLOADING], 0, 0, 1),
        ([UpdateState.HEALTHY], 1, 0, 1),
        ([UpdateState.FAILED], 0, 1, 1),
        ([UpdateState.HEALTHY, UpdateState.ROLLED_BACK], 0, 1, 1),
        ([UpdateState.FAILED, UpdateState.DOWNLOADING, UpdateState.HEALTHY], 1, 0, 1),
    ],
)
def test_a_device_counts_by_its_last_state(
    states: list[UpdateState], healthy: int, failed: int, exposed: int, server: TestServer, device: Simulated
) -> None:
    device.send(*(transition(f"t{n}", state, rollout="ro-1-x") for n, state in enumerate(states)))
    with server.services.registry.read() as records:
        counts = records.reports.counts(_rollout("x"))
    assert (counts.devices_healthy, counts.devices_failed, counts.devices_exposed) == (
        healthy,
        failed,
        exposed,
    )


# --- tags --------------------------------------------------------------------------------------------------


def test_tags_replace_and_reach_the_device_with_its_next_report(manager: Caller, device: Simulated) -> None:
    path = f"devices/{device.id}/tags"
    assert manager("PUT", path, {"tags": ["indoor", "beta", "beta"]}).json["tags"] == ["beta", "indoor"]
    assert device.send().json["tags"] == ["beta", "indoor"]
    assert manager("PUT", path, {"tags": ["ünïcode ✓"]}).status == 200
    assert device.send().json["tags"] == ["ünïcode ✓"]
    manager("PUT", path, {"tags": []})
    assert device.send().json["tags"] == []


def test_a_device_cannot_give_itself_tags(manager: Caller, device: Simulated) -> None:
    manager("PUT", f"devices/{device.id}/tags", {"tags": ["beta"]})
    raw = _malformed(lambda it: it["device"].update(tags=["root"]))
    assert device.call("POST", "reports", raw=raw).json["tags"] == ["beta"]
    assert manager("GET", f"devices/{device.id}").json["tags"] == ["beta"]


@pytest.mark.parametrize(
    "tags", [[""], ["x" * 65], ["a\nb"], ["\u202e"], [str(n) for n in range(65)], [1], "beta", None]
)
def test_tags_out_of_bounds_are_refused(
    tags: object, server: TestServer, manager: Caller, device: Simulated
) -> None:
    before = fingerprint(server.data)
    manager("PUT", f"devices/{device.id}/tags", {"tags": tags}).refused(422)
    assert fingerprint(server.data) == before


# --- cohorts -----------------------------------------------------------------------------------------------


def test_a_cohort_is_set_listed_changed_and_previewed(server: TestServer, manager: Caller) -> None:
    enrol_fleet(server, [f"eu-{n}" for n in range(3)], region="eu")
    enrol_fleet(server, ["us-1"], region="us")
    rule = {"region": "eu"}
    assert manager("PUT", "cohorts/europe", {"condition": rule}).json == {"name": "europe", "condition": rule}
    listed = manager("GET", "cohorts").json["cohorts"]
    assert listed == [{"name": "everyone", "condition": {}}, {"name": "europe", "condition": rule}]
    selected = {"matching": 3, "total": 4, "devices": ["eu-0", "eu-1", "eu-2"]}
    assert manager("GET", "cohorts/europe/preview").json == selected
    assert manager("POST", "cohorts/preview", {"condition": rule}).json == selected
    assert manager("GET", "cohorts/everyone/preview").json["matching"] == 4
    manager("PUT", "cohorts/europe", {"condition": {"region": {"$ne": "eu"}}})
    assert manager("GET", "cohorts/europe/preview").json["devices"] == ["us-1"]
    manager("GET", "cohorts/asia/preview").refused(404, "not-found")


def test_a_preview_names_a_few_and_counts_all(server: TestServer, manager: Caller) -> None:
    enrol_fleet(server, [f"d-{n:02}" for n in range(30)])
    preview = manager("GET", "cohorts/everyone/preview").json
    assert (preview["matching"], len(preview["devices"])) == (30, 20)


@pytest.mark.parametrize(
    "rule", [{"region": {"$near": 1}}, {"id": {"$regex": "(a+)+$"}}, {"$and": {}}, {"$or": 1}]
)
def test_a_rule_that_cannot_be_evaluated_safely_is_refused(
    rule: dict[str, Any], server: TestServer, manager: Caller
) -> None:
    before = fingerprint(server.data)
    manager("PUT", "cohorts/odd", {"condition": rule}).refused(422, "condition")
    manager("POST", "cohorts/preview", {"condition": rule}).refused(422, "condition")
    assert fingerprint(server.data) == before


def test_everyone_always_means_everyone(server: TestServer, manager: Caller) -> None:
    before = fingerprint(server.data)
    manager("PUT", "cohorts/everyone", {"condition": {"id": "x"}}).refused(409, "in-use")
    assert fingerprint(server.data) == before


def test_a_cohort_under_a_rollout_is_not_changed(server: TestServer, manager: Caller) -> None:
    server.publish(TinyRelease())
    rule = {"region": "eu"}
    manager("PUT", "cohorts/europe", {"condition": rule})
    rollout = server.roll_out("1.0.0", cohort="europe")
    before = fingerprint(server.data)
    answer = manager("PUT", "cohorts/europe", {"condition": {"region": "us"}})
    answer.refused(409, "in-use", saying=rollout)
    assert manager("PUT", "cohorts/europe", {"condition": rule}).status == 200  # no change is no harm
    assert fingerprint(server.data) == before
    manager("POST", f"rollouts/{rollout}/rollback")
    server.clock.advance(hours=1)
    server.tick()
    assert manager("PUT", "cohorts/europe", {"condition": {"region": "us"}}).status == 200
