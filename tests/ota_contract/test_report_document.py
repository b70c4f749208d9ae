from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings

from ota_contract.assignment import Arm
from ota_contract.device import Attributes, attributes_from, attributes_to_json, condition_attributes
from ota_contract.documents import canonical_json, reader_of
from ota_contract.errors import FormatError, InvalidNameError, UnknownFormatError
from ota_contract.names import ModelName
from ota_contract.report import (
    MAX_BATCH_BYTES,
    MAX_REPORTS,
    AnsweredBy,
    Batch,
    FallbackCause,
    Report,
    Transition,
    UpdateState,
    Window,
    dump_batch,
    parse_batch,
    report_from,
    report_to_json,
)
from tests.ota_contract.contract_strategies import attributes, batches, reports

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WINDOW: dict[str, Any] = {
    "started": "2026-01-02T03:04:05Z",
    "ended": "2026-01-02T03:09:05Z",
    "inferences": 10,
    "errors": 1,
}


def report_json(**changes: Any) -> dict[str, Any]:
    return {"id": "r", "model": "vision/digits", "version": "1.0.0", "window": WINDOW} | changes


def batch_json(**changes: Any) -> dict[str, Any]:
    return {
        "format": "ferry.reports/1",
        "device": {"id": "camera-7"},
        "live": {"vision/digits": "1.0.0"},
        "reports": [report_json()],
    } | changes


def parse(batch: dict[str, Any]) -> Batch:
    return parse_batch(json.dumps(batch).encode())


@settings(max_examples=50)
@given(batches())
def test_a_batch_is_read_back_and_written_the_same(batch: Batch) -> None:
    data = dump_batch(batch)
    assert parse_batch(data) == batch
    assert dump_batch(parse_batch(data)) == data


@given(reports())
def test_a_report_is_read_back_from_the_devices_queue(report: Report) -> None:
    stored = json.loads(canonical_json(report_to_json(report)))
    assert report_from(reader_of(stored, what="report")) == report


@given(attributes())
def test_attributes_are_read_back(device: Attributes) -> None:
    stored = json.loads(canonical_json(attributes_to_json(device)))
    assert attributes_from(reader_of(stored, what="device")) == device


def test_a_device_cannot_tag_itself() -> None:
    """Tags are a fleet manager's; a device that states some would choose its own cohorts."""
    batch = parse(batch_json(device={"id": "camera-7", "tags": ["beta"]}))
    assert batch.device.tags == ()
    assert (
        "tags"
        not in json.loads(dump_batch(replace(batch, device=replace(batch.device, tags=("x",)))))["device"]
    )


def test_ferrys_names_win_over_a_devices_own() -> None:
    names = condition_attributes(Attributes(device_id="a", extra={"id": "b", "tags": "beta", "line": 4}))
    assert (names["id"], names["tags"], names["line"]) == ("a", [], 4)


def test_a_long_reason_is_cut_and_not_refused() -> None:
    transition = Transition(state=UpdateState.FAILED, at=AT, reason="x" * 1000)
    report = Report(id="r", name=ModelName("a", "b"), version="1.0.0", content=transition)
    batch = Batch(device=Attributes(device_id="a"), live={}, reports=(report,))
    content = parse_batch(dump_batch(batch)).reports[0].content
    assert isinstance(content, Transition)
    assert content.reason == "x" * 256


def test_the_words_of_a_later_device_are_dropped_from_counts() -> None:
    window = {**WINDOW, "answered_by": {"live": 9, "oracle": 1}, "fallbacks": {"boredom": 1, "error": 2}}
    (report,) = parse(batch_json(reports=[report_json(window=window)])).reports
    assert isinstance(report.content, Window)
    assert report.content.answered_by == {AnsweredBy.LIVE: 9}
    assert report.content.fallbacks == {FallbackCause.ERROR: 2}
    assert report.arm is Arm.NONE


def test_unknown_keys_are_ignored_and_an_unknown_format_refused() -> None:
    assert len(parse(batch_json(later={"a": 1})).reports) == 1
    with pytest.raises(UnknownFormatError):
        parse(batch_json(format="ferry.reports/2"))


@pytest.mark.parametrize(
    "change",
    [
        {"device": None},
        {"device": {"id": "../x"}},
        {"device": {"id": "a", "ram_bytes": -1}},
        {"device": {"id": "a", "runtimes": {"onnx": 1}}},
        {"device": {"id": "a", "runtimes": {str(index): "1" for index in range(17)}}},
        {"device": {"id": "a", "extra": {"x": None}}},
        {"device": {"id": "a", "extra": {"x": []}}},
        {"device": {"id": "a", "extra": {"x": 2**53 + 1}}},
        {"device": {"id": "a", "extra": {"x": "a\nb"}}},
        {"device": {"id": "a", "extra": {"a\x1bb": 1}}},
        {"device": {"id": "a", "extra": {str(index): 1 for index in range(65)}}},
        {"device": {"id": "a", "hardware": "x" * 65}},
        {"live": {"digits": "1.0.0"}},
        {"live": {"vision/digits": "1"}},
        {"reports": None},
        {"reports": [report_json()] * (MAX_REPORTS + 1)},
    ],
    ids=lambda change: repr(change)[:50],
)
def test_a_malformed_batch_is_a_format_error(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="reports"):
        parse(batch_json(**change))


@pytest.mark.parametrize(
    "change",
    [
        {"window": None},
        {"id": None},
        {"id": "x" * 65},
        {"model": "digits"},
        {"version": "latest"},
        {"arm": "both"},
        {"rollout": "x" * 65},
        {"window": {**WINDOW, "errors": 11}},
        {"window": {**WINDOW, "errors": -1}},
        {"window": {**WINDOW, "inferences": 10**12 + 1}},
        {"window": {**WINDOW, "started": "now"}},
        {"window": {**WINDOW, "answered_by": {"live": -1}}},
        {"window": {**WINDOW, "fallbacks": []}},
        {"window": [], "transition": None},
        {"transition": {"state": "dreaming", "at": "2026-01-02T03:04:05Z"}},
        {"transition": {"state": "healthy", "at": "2026-01-02T03:04:05Z", "reason": "x" * 257}},
    ],
    ids=lambda change: repr(change)[:50],
)
def test_a_malformed_report_is_a_format_error(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="reports"):
        parse(batch_json(reports=[report_json(**change)]))


def test_a_report_read_alone_says_what_kind_of_error_it_is() -> None:
    with pytest.raises(InvalidNameError):
        report_from(reader_of(report_json(model="x"), what="report"))
    with pytest.raises(FormatError, match="neither a transition nor a window"):
        report_from(reader_of(report_json(window=None), what="report"))


def test_a_batch_is_bounded_in_bytes() -> None:
    data = json.dumps(batch_json()).encode()
    parse_batch(data + b" " * (MAX_BATCH_BYTES - len(data)))
    with pytest.raises(FormatError, match="at most"):
        parse_batch(data + b" " * (MAX_BATCH_BYTES + 1 - len(data)))
