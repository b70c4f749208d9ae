"""What a poll costs, when it happens, and what makes it wait."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_sdk.agent import Agent
from tests.support.devices import Device, Ticks, complete, settle
from tests.support.fleet import TestServer
from tests.support.network import Proxy, Reply, answer, run_proxy

Behind = Callable[..., Device]

pytestmark = pytest.mark.usefixtures("no_self_test")
EVERY_S = "[agent]\npoll_interval_s = 100\nreport_interval_s = 1000\nrollout_report_interval_s = 1000\n"


def without_etag(reply: Reply) -> None:
    reply.headers.pop("ETag", None)


@pytest.fixture
def settled(server: TestServer, proxy: Proxy, behind: Behind) -> Device:
    device = behind(server, proxy.url, agent=EVERY_S)
    settle(device)
    proxy.forget()
    return device


def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device_sdk.agent.random.uniform", lambda *_: 1.0)


def test_an_unchanged_poll_is_one_request_answered_304_without_a_body(settled: Device, proxy: Proxy) -> None:
    with settled.agent() as agent:
        agent.poll()
        proxy.forget()
        assert "1.0.0 is live" in agent.poll()
    assert [(seen.method, seen.path, seen.status, seen.sent_bytes) for seen in proxy.seen] == [
        ("GET", "/metadata/timestamp.json", 304, 0)
    ]
    assert settled.activity()["polls"]["not_modified"] >= 1


def test_a_restarted_agent_needs_no_more_than_that_either(settled: Device, proxy: Proxy) -> None:
    settled.poll()
    proxy.forget()
    settled.poll()
    assert [(seen.path, seen.status) for seen in proxy.seen] == [("/metadata/timestamp.json", 304)]


def test_after_24_hours_root_is_asked_for_though_nothing_changed(settled: Device, proxy: Proxy) -> None:
    settled.poll()
    settled.clock.advance(hours=23, minutes=59)
    proxy.forget()
    settled.poll()
    assert proxy.paths() == ["GET /metadata/timestamp.json"]
    settled.clock.advance(minutes=2)
    proxy.forget()
    settled.poll()
    assert "GET /metadata/2.root.json" in proxy.paths()
    proxy.forget()
    settled.poll()
    assert proxy.paths() == ["GET /metadata/timestamp.json"]


def test_a_changed_timestamp_is_fetched_once(own_server: TestServer, behind: Behind) -> None:
    """The conditional request's answer is handed to the verification, not asked for again."""
    with run_proxy(own_server.url) as proxy:
        device = behind(own_server, proxy.url)
        settle(device)
        complete(own_server, "1.1.0")
        proxy.forget()
        device.poll()
        assert device.live == "1.1.0"
        # Once before, and once more just before going live.
        asked = [seen.status for seen in proxy.seen if seen.path == "/metadata/timestamp.json"]
        assert asked == [200, 304]


@pytest.mark.parametrize("etag", ['"\x9b2J"', '"a\tb"', '"' + "x" * 300 + '"', '"caf\xe9"'])
def test_an_etag_that_could_not_be_kept_is_as_good_as_none(settled: Device, proxy: Proxy, etag: str) -> None:
    """It is not signed: what a cache makes of it must not stop updates for good."""

    def odd(reply: Reply) -> None:
        reply.headers["ETag"] = etag

    proxy.misbehave("timestamp.json", odd)
    settled.clock.advance(hours=25)
    for _ in range(2):
        with settled.agent() as agent:
            sentence, failed = agent.poll_once()
        assert not failed, sentence
    record = json.loads((settled.store / "trust" / "record.json").read_bytes())
    assert record["etag"] == ""


def test_a_server_without_etags_is_still_polled(settled: Device, proxy: Proxy) -> None:
    proxy.misbehave("timestamp.json", without_etag)
    settled.clock.advance(hours=25)
    settled.poll()
    proxy.forget()
    assert "1.0.0 is live" in settled.poll()
    assert "GET /metadata/timestamp.json" in proxy.paths()


def test_the_next_poll_is_an_interval_away(settled: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    no_jitter(monkeypatch)
    with settled.agent() as agent:
        agent.poll()
        assert agent._next_poll == settled.ticks.now_s + 100


@given(jitter=st.floats(0.8, 1.2))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_jitter_stays_within_a_fifth(quiet_agent: Agent, ticks: Ticks, jitter: float) -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return jitter

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("device_sdk.agent.random.uniform", uniform)
        quiet_agent.poll()
    assert asked == [(0.8, 1.2)]
    assert 79.999 <= quiet_agent._next_poll - ticks.now_s <= 120.001


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def quiet_agent(settled: Device, ticks: Ticks) -> Iterator[Agent]:
    settled.ticks = ticks
    with settled.agent() as agent:
        yield agent


def test_a_fleet_polls_spread_over_the_interval_by_the_hash_of_its_ids(settled: Device) -> None:
    device_id = settled.config.device.device_id
    share = int.from_bytes(hashlib.sha256(device_id.encode()).digest()[:4]) / 2**32
    with settled.agent() as agent:
        assert agent._next_poll == pytest.approx(settled.ticks.now_s + 100 * share)
        assert agent._next_report == agent._next_poll  # the report would be as much of a herd


def test_nothing_is_sent_before_the_first_poll_is_due(settled: Device, proxy: Proxy) -> None:
    with settled.agent() as agent:
        wait = agent.step()
        assert proxy.paths() == []
        assert 0 < wait <= 0.5
        settled.ticks.advance(100)
        agent.step()
        assert "GET /metadata/timestamp.json" in proxy.paths()


def test_a_device_with_nothing_installed_polls_at_once(
    server: TestServer, proxy: Proxy, behind: Behind
) -> None:
    device = behind(server, proxy.url)
    with device.agent() as agent:
        agent.step()
    assert device.live == "1.0.0"
    assert proxy.paths()[-1] == "POST /api/v1/reports"


def test_the_policy_says_how_often_unless_the_device_does(server: TestServer, behind: Behind) -> None:
    device = behind(server)
    settle(device)
    with device.agent() as agent:
        assert agent._interval_s == 1  # known from the policy last trusted, before anybody is asked


@pytest.mark.parametrize("jitter", [0.8, 1.0, 1.2])
def test_retry_after_is_obeyed_whatever_the_jitter(
    settled: Device, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, jitter: float
) -> None:
    monkeypatch.setattr("device_sdk.agent.random.uniform", lambda *_: jitter)
    proxy.misbehave("timestamp", answer(503, Retry_After="4000"))
    before = settled.footprint()
    with settled.agent() as agent:
        agent.poll()
        assert 4000 <= agent._next_poll - settled.ticks.now_s <= 4800.001
    assert settled.footprint() == before


def test_an_absurd_retry_after_does_not_silence_a_device_for_ever(
    settled: Device, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_jitter(monkeypatch)
    for text, longest_s in (("999999999", 24 * 3600), ("9" * 40, 100), ("-5", 100), ("soon", 100)):
        proxy.heal()
        proxy.misbehave("timestamp", answer(503, Retry_After=text))
        with settled.agent() as agent:
            agent.poll()
            assert agent._next_poll - settled.ticks.now_s == longest_s


def test_failures_back_off_to_a_bound_and_a_success_ends_it(
    settled: Device, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_jitter(monkeypatch)
    proxy.dead = True
    waits = []
    with settled.agent() as agent:
        for _ in range(7):
            agent.poll()
            waits.append(agent._next_poll - settled.ticks.now_s)
        assert waits == [100, 200, 400, 800, 1600, 1600, 1600]
        agent._failures = 5000  # months without a link
        agent.poll()
        assert agent._next_poll - settled.ticks.now_s == 1600
        proxy.heal()
        agent.poll()
        assert agent._next_poll - settled.ticks.now_s == 100


def test_a_dead_server_is_a_failure_in_words_and_nothing_moves(settled: Device, proxy: Proxy) -> None:
    before = settled.footprint()
    proxy.dead = True
    with settled.agent() as agent:
        sentences, failed = agent.poll_once()
    assert failed
    assert "timestamp.json" in sentences
    assert settled.activity()["last_error"]["message"] == sentences
    assert settled.footprint() == before
    assert settled.predict().release == "1.0.0"


def test_step_never_raises_even_where_the_record_is_damaged(settled: Device, proxy: Proxy) -> None:
    settled.slots.state_path.write_bytes(b"{")
    with settled.agent() as agent:
        told = settled.activity()["last_error"]["message"]
        settled.ticks.advance(1000)
        agent.step()
    assert "damaged" in told
    assert proxy.seen


def test_the_refresh_interval_survives_a_clock_set_back_a_little(settled: Device, proxy: Proxy) -> None:
    settled.poll()
    settled.clock.now -= timedelta(minutes=5)
    proxy.forget()
    settled.poll()
    assert proxy.paths() == ["GET /metadata/timestamp.json"]
