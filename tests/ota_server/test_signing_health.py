"""Signatures are kept fresh under a moved clock; where they cannot be, log and metrics say so."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ota_server.app import _reconcile, create_app
from ota_server.domain.expiry import LIFETIMES, WARN_WITHIN, expiry_warning, lifetime_of
from ota_server.errors import KeyFileError
from ota_server.operations.ports import Services
from ota_server.operations.reconciler import tick
from ota_server.settings import Settings
from tests.support.ceremonies import Table, ferry
from tests.support.fleet import Clock
from tests.support.registry import Bench, make_bench
from tests.support.tuf_view import versions


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bench(tmp_path: Path, clock: Clock) -> Bench:
    return make_bench(tmp_path, "vision", "audio", clock=clock)


def scraped(client: TestClient) -> dict[tuple[str, str], float]:
    """By name and role, read by Prometheus' own parser."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, sample.labels.get("role", "")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.fixture
def server(bench: Bench, clock: Clock) -> tuple[Services, TestClient]:
    app = create_app(Settings(data=bench.data, tick_s=0), clock=clock)
    return app.state.services, TestClient(app)


EXPIRY, FAILURES, FAILING = (
    "ferry_metadata_expiry_timestamp_seconds",
    "ferry_metadata_signing_failures_total",
    "ferry_metadata_signing_failing",
)


def test_metrics_tell_when_each_role_expires(server: tuple[Services, TestClient], clock: Clock) -> None:
    services, client = server
    before = scraped(client)
    roles = {role for name, role in before if name == EXPIRY}
    assert roles == {
        *("root", "targets", "snapshot", "timestamp"),
        *("pub-vision", "pub-audio", "ro-vision", "ro-audio"),
    }
    assert before[EXPIRY, "timestamp"] == (clock() + LIFETIMES["timestamp"]).timestamp()
    assert before[EXPIRY, "root"] == (clock() + timedelta(days=365)).timestamp()
    assert (before[FAILURES, ""], before[FAILING, ""]) == (0, 0)
    clock.advance(days=4)
    tick(services)
    after = scraped(client)
    assert after[EXPIRY, "timestamp"] == (clock() + LIFETIMES["timestamp"]).timestamp()
    assert after[EXPIRY, "root"] == before[EXPIRY, "root"]
    document = json.dumps(client.get("/api/v1/openapi.json").json())
    assert "/metrics" not in document


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "ro-vision"])
def test_a_key_that_cannot_be_read_is_told_and_signing_recovers_with_it(
    role: str,
    server: tuple[Services, TestClient],
    bench: Bench,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    services, client = server
    key = bench.data / "keys" / f"{role}.pem"
    content = key.read_bytes()
    key.unlink()
    tick(services)  # nothing is due yet
    assert scraped(client)[FAILING, ""] == 0
    clock.advance(days=16)
    before = versions(bench.data)
    for failures in (1, 2):
        with pytest.raises(KeyFileError, match=f"the key of {role} .* cannot be used"):
            tick(services)
        found = scraped(client)
        assert (found[FAILURES, ""], found[FAILING, ""]) == (failures, 1)
    assert versions(bench.data)[role] == before[role]
    key.write_bytes(content)
    with caplog.at_level(logging.WARNING, logger="ferry.server"):
        tick(services)
    assert "signing works again" in caplog.text
    found = scraped(client)
    assert (found[FAILURES, ""], found[FAILING, ""]) == (2, 0)
    assert versions(bench.data)[role] > before[role]
    bench.view().refreshed()


def test_one_publishers_key_does_not_cost_every_device_its_timestamp(
    server: tuple[Services, TestClient], bench: Bench, clock: Clock
) -> None:
    services, _ = server
    (bench.data / "keys" / "ro-audio.pem").write_bytes(b"damaged")
    clock.advance(days=16)
    before = versions(bench.data)
    with pytest.raises(KeyFileError, match="ro-audio"):
        tick(services)
    after = versions(bench.data)
    assert {role for role in after if after[role] > before[role]} == {"timestamp", "snapshot", "ro-vision"}


def test_a_failure_of_every_turn_is_one_line_an_hour(
    server: tuple[Services, TestClient], bench: Bench, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    services, _ = server
    (bench.data / "keys" / "ro-audio.pem").unlink()
    clock.advance(days=16)

    async def fail(times: int) -> None:
        before = services.signing.failures
        while services.signing.failures < before + times:  # noqa: ASYNC110 - the reconciler tells nobody
            await asyncio.sleep(0)

    async def turns() -> None:
        reconciler = asyncio.create_task(_reconcile(services, 0.001))
        await fail(5)
        clock.advance(hours=1)
        await fail(5)
        reconciler.cancel()
        await asyncio.gather(reconciler, return_exceptions=True)

    with caplog.at_level(logging.ERROR, logger="ferry.server"):
        asyncio.run(turns())
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(lines) == 2
    assert all("the key of ro-audio" in line for line in lines)


def test_the_log_warns_once_a_day_of_what_only_people_can_renew(
    server: tuple[Services, TestClient], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    services, _ = server

    def warnings() -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="ferry.server"):
            tick(services)
        return [record.getMessage() for record in caplog.records]

    assert warnings() == []
    clock.advance(days=334)
    assert warnings() == []
    clock.advance(days=2)
    told = warnings()
    assert len(told) == 4
    for role in ("root", "targets", "pub-vision", "pub-audio"):
        assert (
            f"{role} expires in 29 days; without it devices take no updates: `ferry keys renew {role}`"
            in told
        )
    clock.advance(hours=23)
    assert warnings() == []
    clock.advance(hours=2)
    assert len(warnings()) == 4
    clock.advance(days=-300)  # a clock set right again does not silence the log
    assert warnings() == []
    clock.advance(days=301)
    assert len(warnings()) == 4


def test_metadata_that_nobody_signs_anew_is_warned_of(
    server: tuple[Services, TestClient], bench: Bench, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    services, _ = server
    (bench.data / "keys" / "timestamp.pem").unlink()
    clock.advance(days=6)
    with caplog.at_level(logging.WARNING, logger="ferry.server"), pytest.raises(KeyFileError):
        tick(services)
    assert "timestamp expires in 1 days, and the server has not signed it anew" in caplog.text


@given(
    role=st.sampled_from(["root", "targets", "pub-vision", "snapshot", "timestamp", "ro-vision"]),
    left_s=st.integers(-400 * 86400, 400 * 86400),
)
def test_a_warning_comes_in_time_and_stays(role: str, left_s: int) -> None:
    """From some point on there always is one, and never before half of an online signature's life."""
    now = datetime(2026, 11, 24, tzinfo=UTC)
    left = timedelta(seconds=left_s)
    told = expiry_warning(role, now + left, now)
    lifetime = lifetime_of(role)
    threshold = WARN_WITHIN if lifetime is None else lifetime / 4
    assert bool(told) is (left <= threshold)
    assert ("expired on" in told) is (left <= timedelta())
    assert "\n" not in told


def test_status_lists_every_role_and_says_nothing_needs_a_hand(bench: Bench) -> None:
    said = ferry("keys", "status", "--data", bench.data).ok()
    assert "warning" not in said.out
    assert "1 of 1" in said.out
    rows = {row["role"]: row for row in ferry("keys", "status", "--data", bench.data, "--json").ok().json}
    assert list(rows)[:4] == ["root", "targets", "snapshot", "timestamp"]
    assert rows["timestamp"]["key_at"] == "file2:keys/timestamp.pem"
    assert rows["timestamp"]["key_state"] == "plain"
    assert rows["root"]["key_at"] == ""
    assert rows["root"]["expires_in_days"] in (364, 365)
    assert (rows["ro-audio"]["version"], rows["ro-audio"]["threshold"], len(rows["ro-audio"]["keys"])) == (
        1,
        1,
        1,
    )


def test_status_fails_before_something_expires(tmp_path: Path) -> None:
    """By the real clock, which is the one this command looks at."""
    made = Clock(now=datetime.now(UTC).replace(microsecond=0) - timedelta(days=340))
    bench = make_bench(tmp_path, clock=made)
    said = ferry("keys", "status", "--data", bench.data)
    assert said.code == 1
    assert "warning: root expires in 24 days" in said.out
    assert "warning: timestamp expired on" in said.out
    made.now = datetime.now(UTC)
    tick(bench.open())
    table = Table(bench)
    assert ferry("keys", "status", "--data", bench.data).code == 1
    assert ferry("keys", "status", "--data", bench.data, "--within", 10).code == 0
    keys = (table.offline("root-1"), table.offline("targets-1"), table.publisher())
    table.whole("renew", "root", "targets", "pub-vision", keys=keys)
    assert ferry("keys", "status", "--data", bench.data).code == 0


@pytest.mark.parametrize("loss", ["file", "entry"])
def test_status_tells_a_key_that_is_not_there(loss: str, bench: Bench) -> None:
    if loss == "file":
        (bench.data / "keys" / "snapshot.pem").unlink()
    else:
        uris = json.loads((bench.data / "keys.json").read_text())
        del uris["snapshot"]
        (bench.data / "keys.json").write_text(json.dumps(uris))
    said = ferry("keys", "status", "--data", bench.data)
    assert said.code == 1
    assert "warning: the key of snapshot is not there" in said.out
