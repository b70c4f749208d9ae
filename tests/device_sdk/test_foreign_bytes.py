"""Bytes that others wrote, or a disk has damaged, stop neither the agent nor the app."""

from __future__ import annotations

import json
import logging
import os
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_sdk.__main__ import main
from device_sdk.activity import Activity, read_activity
from device_sdk.cloud import CloudModel
from device_sdk.config import CloudConfig, read_config
from device_sdk.durable import read_bounded
from device_sdk.enrolment import problem_of
from device_sdk.errors import CloudError, ConfigError, NetworkError, StoreError
from device_sdk.slots import Store
from device_sdk.spool import Spool
from device_sdk.transport import Answer, Transport
from device_sdk.trust_record import TrustRecord
from device_sdk.trust_rules import check_clock
from ota_contract.report import Report, Transition, UpdateState
from tests.support.devices import DIGITS, Device

DEEP = b"[" * 30_000 + b"]" * 30_000
AT = datetime(2026, 1, 1, tzinfo=UTC)


def answer(body: bytes, status: int = 400) -> Answer:
    return Answer(status=status, body=body, etag="", retry_after_s=None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        DEEP,
        b'{"polls": 1, "refused": 2, "last_poll": 3, "last_error": 4, "standing": 5}',
        b'{"polls": {"total": "3"}}',
        b'{"polls": {"total": 1}, "refused": {"blobs": true}}',
        b'{"last_error": {"at": 1, "message": []}}',
        b'{"standing": "\\u001b[2J"}',
        b'{"polls": {"total": ' + b"9" * 4000 + b"}}",
    ],
)
def test_a_damaged_diary_begins_anew_and_stops_nothing(tmp_path: Path, data: bytes) -> None:
    """It is never decided upon, and a fault in it once ended every poll."""
    (tmp_path / "activity.json").write_bytes(data)
    activity = Activity(tmp_path)
    activity.polled(changed=True)
    activity.failed("link lost", blob_refused=True)
    values = read_activity(tmp_path)
    assert (values["polls"]["total"], values["refused"]["blobs"]) == (1, 1)
    assert values["last_error"]["message"] == "link lost"


def test_the_longest_diary_is_read_back(tmp_path: Path) -> None:
    activity = Activity(tmp_path)
    activity.succeeded("😀" * 100_000)
    activity.failed("é\n" * 1000)
    values = read_activity(tmp_path)
    assert values["standing"].startswith("😀" * 1000)
    assert values["last_error"]["message"].startswith("é é ")


def test_a_deep_problem_is_told_by_its_status() -> None:
    """json's RecursionError is none of the errors a caller of predict is told to expect."""
    for body in (DEEP, b'{"detail": ' + DEEP + b"}", b"[]", b'"text"', b"null", b"{", b"x" * 100_000):
        assert problem_of(answer(body)) == "HTTP 400"
    assert problem_of(answer(b'{"title": "Bad Request", "detail": null}')) == "Bad Request"
    assert problem_of(answer(b'{"detail": [{"loc": ["body"]}]}')).startswith("[{'loc'")


def test_a_problem_cannot_move_the_cursor_of_who_reads_the_log() -> None:
    told = problem_of(answer(json.dumps({"detail": "gone\x1b[2J\nroot logged in\x9b"}).encode()))
    assert told == "gone [2J root logged in "
    assert len(problem_of(answer(json.dumps({"detail": "x" * 1000}).encode()))) == 300


@pytest.mark.parametrize("status", [200, 500])
def test_a_deep_answer_of_the_cloud_is_a_cloud_error(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr(Transport, "send", lambda *_, **__: answer(DEEP, status))
    config = CloudConfig(url="http://cloud", model="m", timeout_s=1.0, tls=None)
    with pytest.raises(CloudError):
        CloudModel(config, "m", Transport()).infer({"image": np.zeros((1, 1), np.float32)}, None)


def test_what_a_middlebox_says_is_one_printable_line_in_the_log(
    old_device: Device, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refresh(*_: Any) -> bool:
        raise NetworkError("captive\x1b[2J\nportal\x9b31m")

    monkeypatch.setattr("device_sdk.trust.TrustedRepository.refresh", refresh)
    twin = old_device.copy(tmp_path / "twin")
    with caplog.at_level(logging.INFO), twin.agent() as agent:
        agent.poll()
    assert [record.getMessage() for record in caplog.records if record.name == "ferry"] == [
        "captive [2J portal 31m"
    ]
    assert twin.activity()["last_error"]["message"] == "captive [2J portal 31m"


@pytest.mark.parametrize(
    "data", [b"", DEEP, b"{}", b'{"tags": "x"}', b'{"tags": [1]}', b'{"tags": ["\\ud800"]}']
)
def test_damaged_tags_are_unknown_until_the_next_answer(
    old_device: Device, tmp_path: Path, data: bytes
) -> None:
    twin = old_device.copy(tmp_path / "twin")
    (twin.store / "tags.json").write_bytes(data)
    with twin.agent() as agent:
        assert agent._reporter.attributes().tags == ()


def report(number: int) -> Report:
    content = Transition(state=UpdateState.OFFERED, at=AT)
    return Report(id=f"{number:032}", name=DIGITS, version="1.0.0", content=content)


def test_a_pipe_or_a_flood_among_dropped_reports_holds_nobody_up(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "reports")
    incoming = tmp_path / "reports" / "incoming"
    os.mkfifo(incoming / "0.json")
    (incoming / "1.json").symlink_to("/dev/zero")
    (incoming / "2.json").mkdir()
    (incoming / "3.json").touch()
    os.truncate(incoming / "3.json", 2**33)  # a hole of eight gigabytes
    spool.drop(report(1))
    tracemalloc.start()
    try:
        assert [item.id for _, item in spool.incoming()] == [report(1).id]
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert not (incoming / "3.json").exists()


def test_what_waits_for_sending_is_bounded_however_long_a_device_is_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accepting moves windows on; where nothing is ever sent, the oldest have to go there, too."""
    monkeypatch.setattr("device_sdk.spool._MAX_QUEUED", 10)
    spool = Spool(tmp_path / "reports")
    for number in range(30):
        spool.drop(report(number))
        for path, _ in spool.incoming():
            spool.accept(path)
    assert [item.id for _, item in spool.outgoing(99)] == [report(number).id for number in range(20, 30)]


def test_a_state_file_of_any_size_is_refused_in_little_memory(tmp_path: Path) -> None:
    slots = Store(tmp_path / "store").model(DIGITS)
    slots.state_path.touch()
    os.truncate(slots.state_path, 2**33)
    tracemalloc.start()
    try:
        with pytest.raises(StoreError):
            slots.state()
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_bounded_reading_gives_one_byte_too_many_so_that_a_parser_refuses_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"123456")
    assert read_bounded(path, 6) == b"123456"
    assert read_bounded(path, 4) == b"12345"
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "missing", "."):
        with pytest.raises(OSError, match=r"."):
            read_bounded(tmp_path / name, 6)


@pytest.mark.parametrize("trusted", [datetime.min, datetime(1, 1, 1, 0, 0, 1)])  # noqa: DTZ001, DTZ901
def test_a_signed_time_at_the_beginning_of_the_calendar_is_no_crash(trusted: datetime) -> None:
    """Whoever holds the online key may sign any time; a day before the first is out of a date's range."""
    check_clock(TrustRecord(trusted_time=trusted.replace(tzinfo=UTC)), AT)
    check_clock(TrustRecord(trusted_time=AT + timedelta(hours=23)), AT)
    check_clock(TrustRecord(), datetime.max.replace(tzinfo=UTC))


@pytest.mark.parametrize(
    "text",
    [
        "threads = " + "9" * 5000,
        "threads = 0x" + "f" * 5000,
        "[device]\nram_bytes = 0x" + "f" * 5000,
        "[agent]\npoll_interval_s = 0x" + "f" * 5000,
        "[device.extra]\nx = " + "[" * 3000 + "]" * 3000,
        "server = 1979-05-27",
        "[cloud]\nurl = 1e999",
    ],
)
def test_numbers_and_depths_beyond_any_bound_are_errors_of_the_configuration(
    tmp_path: Path, text: str
) -> None:
    head = 'server = "http://localhost"\nstore = "store"\ntrust_root = "root.json"\nmodels = ["a/b"]\n'
    path = tmp_path / "device.toml"
    path.write_text(text if text.startswith("server") else head + text)
    with pytest.raises(ConfigError, match=r"device\.toml"):
        read_config(path)


def test_an_input_file_too_deep_to_read_is_refused_in_one_line(
    old_device: Device, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "input.json"
    path.write_bytes(b'{"image": ' + DEEP + b"}")
    assert main(["predict", "--config", str(old_device.config_path), "--input", str(path)]) == 1
    assert "cannot be read as an input" in capsys.readouterr().err
