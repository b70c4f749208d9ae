"""Whatever fails, and whenever: devices see the old repository or the new one, and the server goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import event

from ota_contract.names import parse_model
from ota_contract.policy import Policy
from ota_server.adapters.registry import SqlRegistry
from ota_server.errors import RepositoryError, StorageError
from ota_server.operations import rollouts
from ota_server.operations.ports import Services
from ota_server.operations.reconciler import tick
from ota_server.operations.releases import list_releases
from ota_server.operations.rollouts import Action
from tests.support.faults import Crash, Faults, disk_full
from tests.support.registry import MANAGER, Bench, close, make_bench
from tests.support.rollout_plans import plan
from tests.support.state import fingerprint
from tests.support.tiny import TinyRelease
from tests.support.tuf_view import versions

DIGITS = parse_model("vision/digits")
OLD = TinyRelease()
NEW = TinyRelease(version="1.1.0", counter=2, seed=1)
NEXT = TinyRelease(version="1.2.0", counter=3, seed=2)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(monkeypatch)


def indexed(services: Services) -> list[str]:
    return [item.version for item in list_releases(services, MANAGER, DIGITS)]


def test_a_death_at_any_step_of_a_publication_leaves_the_old_or_the_new(bench: Bench, faults: Faults) -> None:
    """After each death: devices go on, a restart indexes exactly what is visible, publishing again works."""
    services = bench.open()
    bench.publish(services, OLD)
    steps, step, outcomes = None, 0, []
    while steps is None or step < steps:
        tiny = TinyRelease(version=f"1.1.{step}", counter=2 + step, seed=1)
        folder = bench.package(tiny)
        bench.upload(services, folder)
        if steps is None:  # the first one goes through, to count
            with faults.at(None, Crash):
                bench.hand_over(services, folder)
            steps = faults.count
            assert steps >= 20  # manifest, metadata, snapshot, timestamp: each created, written, synced…
            step += 1
            continue
        with faults.at(step, Crash), pytest.raises(Crash):
            bench.hand_over(services, folder)
        close(services)

        visible = bench.view().releases(tiny.version) == [tiny.version]
        services = bench.open()
        assert (tiny.version in indexed(services)) is visible, step
        outcomes.append(visible)
        assert bench.view("cold").releases("1.0.0") == ["1.0.0"]

        assert bench.hand_over(services, folder).version == tiny.version
        assert bench.view().releases(tiny.version) == [tiny.version]
        assert indexed(services)[0] == tiny.version
        step += 1
    # One instant divides invisible from visible.
    assert outcomes == sorted(outcomes)
    assert {True, False} == set(outcomes)


def test_a_full_disk_at_any_step_refuses_and_leaves_the_published_files(bench: Bench, faults: Faults) -> None:
    services = bench.open()
    bench.publish(services, OLD)
    folder = bench.package(NEW)
    bench.upload(services, folder)
    published, before = versions(bench.data), fingerprint(bench.data)
    step, refused = 0, 0
    while True:
        with faults.at(step, disk_full):
            try:
                bench.hand_over(services, folder)
            except StorageError:
                refused += 1
            else:
                break
        if versions(bench.data) != published:
            break  # the timestamp was in place: see the next test
        assert fingerprint(bench.data)["database"] == before["database"]
        assert bench.view().releases("1.0.0", "1.1.0") == ["1.0.0"]
        step += 1
    assert refused >= 15


def test_a_disk_that_fails_behind_the_timestamp_does_not_lose_the_release(
    bench: Bench, faults: Faults
) -> None:
    """The release is visible and the caller got an error: publishing again finds it, without a restart."""
    services = bench.open()
    bench.publish(services, OLD)
    folder = bench.package(NEW)
    bench.upload(services, folder)
    last = 0
    while bench.view().releases("1.1.0") == []:
        with faults.at(last, disk_full), pytest.raises(StorageError):
            bench.hand_over(services, folder)
        last += 1
    assert indexed(services) == ["1.0.0"]
    assert bench.hand_over(services, folder).version == "1.1.0"
    assert indexed(services) == ["1.1.0", "1.0.0"]
    assert bench.publish(services, NEXT).version == "1.2.0"


def test_a_database_that_cannot_commit_does_not_lose_the_release(bench: Bench) -> None:
    services = bench.open()
    bench.publish(services, OLD)
    folder = bench.package(NEW)
    bench.upload(services, folder)
    assert isinstance(services.registry, SqlRegistry)

    def fail(_: object) -> None:
        event.remove(services.registry._engine, "commit", fail)  # type: ignore[attr-defined]
        raise disk_full()

    event.listen(services.registry._engine, "commit", fail)
    with pytest.raises(OSError, match="No space"):
        bench.hand_over(services, folder)
    assert indexed(services) == ["1.0.0"]
    assert bench.view().releases("1.1.0") == ["1.1.0"]
    assert bench.hand_over(services, folder).version == "1.1.0"
    assert indexed(services) == ["1.1.0", "1.0.0"]


def test_a_death_at_any_step_of_a_policy_is_mended_by_the_next_tick(bench: Bench, faults: Faults) -> None:
    services = bench.open()
    bench.publish(services, OLD)
    draft = rollouts.create(services, MANAGER, plan("1.0.0")).id
    step = 0
    while True:
        try:
            with faults.at(step, Crash):
                rollouts.act(services, MANAGER, draft, Action.START)
        except Crash:
            step += 1
        else:
            break
        # The database did not commit: the rollout is a draft, and the next tick makes the policy say so.
        policy = bench.view().policy()
        assert policy is None or [rule.rollout for rule in policy.rules] in ([], [draft])
        assert rollouts.find(services, MANAGER, draft).state.value == "draft"
        close(services)
        services = bench.open()
        tick(services)
        policy = bench.view().policy()
        assert policy is None or policy.rules == ()
    assert step >= 15
    policy = bench.view().policy()
    assert policy is not None
    assert [rule.rollout for rule in policy.rules] == [draft]
    before = versions(bench.data)
    tick(services)
    tick(services)
    assert versions(bench.data) == before


def test_a_policy_lost_between_database_and_publication_is_published_by_the_next_tick(
    bench: Bench,
) -> None:
    """A backup of the database newer than the repository, or the other way round, heals by itself."""
    services = bench.open()
    bench.publish(services, OLD)
    draft = rollouts.create(services, MANAGER, plan("1.0.0"))
    rollouts.act(services, MANAGER, draft.id, Action.START)
    with services.registry.write() as records:
        records.rollouts.save(draft)
    tick(services)
    policy = bench.view().policy()
    assert policy is not None
    assert policy.rules == ()
    assert policy.revision == 2


def test_a_staged_file_of_a_dead_process_is_written_over(bench: Bench, faults: Faults) -> None:
    services = bench.open()
    bench.publish(services, OLD)
    folder = bench.package(NEW)
    bench.upload(services, folder)
    with faults.at(1, Crash), pytest.raises(Crash):  # the staged manifest is created, not yet written
        bench.hand_over(services, folder)
    assert len(list(bench.data.rglob(".*.new"))) == 1
    bench.hand_over(bench.open(), folder)
    assert list(bench.data.rglob(".*.new")) == []


def test_a_policy_devices_would_refuse_is_never_signed(bench: Bench) -> None:
    """Signed once, it would stop every device of the model, and a later one could not be told from a gap."""
    services = bench.open()
    bench.publish(services, OLD)
    before = fingerprint(bench.data)
    with pytest.raises(RepositoryError, match="cannot be published"):
        services.repository.publish_policies(
            [Policy(name=DIGITS, revision=0, poll_interval_s=10**9, rules=())]
        )
    assert fingerprint(bench.data) == before
