"""The reconciler on its own: fresh signatures, one broken model, and two servers on one folder."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from ota_server.domain import lifecycle
from ota_server.errors import ServerError
from ota_server.operations import rollouts
from ota_server.operations.reconciler import tick
from ota_server.operations.rollouts import Action
from tests.support.fleet import Clock
from tests.support.registry import MANAGER, Bench, make_bench
from tests.support.rollout_plans import plan
from tests.support.tiny import TinyRelease
from tests.support.tuf_view import read_targets, versions


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bench(tmp_path: Path, clock: Clock) -> Bench:
    return make_bench(tmp_path, "vision", "audio", clock=clock)


@pytest.mark.parametrize(
    ("days", "renewed"),
    [
        (3.4, set()),
        (3.6, {"timestamp", "snapshot"}),
        (14.9, {"timestamp", "snapshot"}),
        (15.1, {"timestamp", "snapshot", "ro-vision", "ro-audio"}),
        (29, {"timestamp", "snapshot", "ro-vision", "ro-audio"}),
    ],
)
def test_what_has_lived_half_its_life_is_signed_anew_and_nothing_else(
    days: float, renewed: set[str], bench: Bench, clock: Clock
) -> None:
    services = bench.open()
    before = versions(bench.data)
    clock.advance(days=days)
    tick(services)
    after = versions(bench.data)
    assert {role for role in after if after[role] != before[role]} == renewed
    tick(services)
    assert versions(bench.data) == after
    assert read_targets(bench.data, "ro-vision").expires > clock() + timedelta(days=10)


def test_a_server_that_was_off_for_months_signs_anew_at_once(bench: Bench, clock: Clock) -> None:
    bench.open()
    clock.advance(days=100)
    tick(bench.open())
    assert read_targets(bench.data, "ro-vision").expires == clock() + timedelta(days=30)


def test_one_broken_model_does_not_hold_up_the_others(bench: Bench) -> None:
    """The key of one publisher's policies is gone: the other publisher's rollouts go on."""
    services = bench.open()
    drafts = {}
    for publisher in ("audio", "vision"):
        bench.publish(services, TinyRelease(model=f"{publisher}/digits"))
        draft = rollouts.create(services, MANAGER, plan("1.0.0", model=f"{publisher}/digits"))
        drafts[publisher] = rollouts.act(services, MANAGER, draft.id, Action.START)
    (bench.data / "keys" / "ro-audio.pem").unlink()
    with services.registry.write() as records:  # both policies have to change at the next tick
        for rollout in drafts.values():
            records.rollouts.save(lifecycle.halt(rollout, "somebody"))
    with pytest.raises(ServerError, match="ro-audio"):
        tick(services)
    policy = bench.view().policy("vision/digits")
    assert policy is not None
    assert policy.rules[0].frozen


def test_two_servers_on_one_folder_do_not_fight(bench: Bench) -> None:
    """Ticking and publishing at once, in turns and in threads: every version follows the one before."""
    first, second = bench.open(), bench.open()
    bench.publish(first, TinyRelease())
    draft = rollouts.create(first, MANAGER, plan("1.0.0", 500, 10_000))
    rollouts.act(second, MANAGER, draft.id, Action.START)
    before = versions(bench.data)
    for services in (first, second) * 3:
        tick(services)
    assert versions(bench.data) == before

    finished = threading.Event()

    def keep_ticking(index: int) -> None:
        while not finished.is_set():
            tick((first, second)[index])

    def publish(index: int) -> None:
        publisher = ("vision", "audio")[index]
        for number in range(4):
            tiny = TinyRelease(model=f"{publisher}/m{index}", version=f"1.{number}.0", counter=number + 1)
            bench.publish((first, second)[index], tiny)

    with ThreadPoolExecutor(4) as pool:
        tickers = [pool.submit(keep_ticking, index) for index in (0, 1)]
        try:
            for publishing in [pool.submit(publish, index) for index in (0, 1)]:
                publishing.result()
        finally:
            finished.set()
        for ticker in tickers:
            ticker.result()
    after = versions(bench.data)
    assert after["snapshot"] == before["snapshot"] + 8
    assert after["timestamp"] == before["timestamp"] + 8
    view = bench.view()
    for index, publisher in enumerate(("vision", "audio")):
        found = view.releases(*(f"1.{number}.0" for number in range(4)), model=f"{publisher}/m{index}")
        assert len(found) == 4


def test_freshness_signed_by_two_servers_at_once_is_signed_once(bench: Bench, clock: Clock) -> None:
    first, second = bench.open(), bench.open()
    before = versions(bench.data)
    clock.advance(days=16)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(tick, services) for services in (first, second)]:
            done.result()
    after = versions(bench.data)
    assert {role: after[role] - before[role] for role in ("timestamp", "snapshot", "ro-vision")} == {
        "timestamp": 1,
        "snapshot": 1,
        "ro-vision": 1,
    }
    bench.view().refreshed()
