"""Rollouts over HTTP: devices report, the clock is moved by hand, and the published policy follows."""

from __future__ import annotations

import itertools
import secrets
from pathlib import Path
from typing import Any

import pytest

from ota_contract.assignment import assign
from ota_server.domain.access import Principal, Role
from ota_server.operations.access import create_token
from tests.support.calls import Caller
from tests.support.fleet import TestServer
from tests.support.simulated import DIGITS, Simulated, enrol_fleet
from tests.support.state import fingerprint
from tests.support.tiny import TinyRelease
from tests.support.tuf_view import TufView, of_url, versions

STAGES = [{"percent_bp": 500, "soak_s": 60}, {"percent_bp": 2500, "soak_s": 60}, {"percent_bp": 10_000}]
CANARY = {"model": "vision/digits", "version": "1.1.0", "strategy": "canary", "stages": STAGES}


@pytest.fixture(autouse=True)
def same_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollout's id is its salt: the same ids put the same devices below 5 % in every run."""
    numbers = itertools.count(1)
    monkeypatch.setattr(secrets, "token_hex", lambda _: f"{next(numbers):010x}")


@pytest.fixture
def base(server: TestServer) -> TestServer:
    """1.0.0 and 1.1.0 are published."""
    server.publish(TinyRelease())
    server.publish(TinyRelease(version="1.1.0", counter=2, seed=1))
    return server


@pytest.fixture
def manager(base: TestServer) -> Caller:
    return Caller(base.url, base.tokens["fleet_manager"])


@pytest.fixture
def view(base: TestServer, tmp_path: Path) -> TufView:
    return of_url(base.url, base.trust_root, tmp_path / "view")


def round_(server: TestServer, view: TufView, fleet: list[Simulated]) -> list[str]:
    """Every device polls once, then the reconciler looks; the versions that run."""
    policy = view.policy()
    assert policy is not None
    live = [device.obey(policy) for device in fleet]
    server.tick()
    return live


def start(manager: Caller, **changes: Any) -> str:
    created = manager("POST", "rollouts", {**CANARY, **changes})
    assert created.status == 201, created.body
    rollout: str = created.json["id"]
    assert manager("POST", f"rollouts/{rollout}/start").json["state"] == "running"
    return rollout


def settled(server: TestServer, view: TufView, count: int = 60) -> list[Simulated]:
    """A fleet on 1.0.0."""
    fleet = enrol_fleet(server, [f"device-{number}" for number in range(count)])
    rollout = server.roll_out("1.0.0")
    round_(server, view, fleet)
    assert server.client().get("rollouts", rollout)["state"] == "completed"
    return fleet


def test_recreate_moves_everyone_at_once(base: TestServer, view: TufView, manager: Caller) -> None:
    fleet = enrol_fleet(base, [f"d{number}" for number in range(8)])
    rollout = base.roll_out("1.0.0")
    assert set(round_(base, view, fleet)) == {"1.0.0"}
    shown = manager("GET", f"rollouts/{rollout}").json
    assert (shown["state"], shown["percent_bp"], shown["base_version"]) == ("completed", 10_000, None)
    assert shown["counts"]["devices_healthy"] == 8


def test_a_canary_widens_by_itself_and_only_ever_adds(
    base: TestServer, view: TufView, manager: Caller
) -> None:
    fleet = settled(base, view)
    rollout = start(manager)
    seen: list[int] = []
    moved: set[str] = set()
    for _ in range(12):
        live = round_(base, view, fleet)
        now = {device.id for device, version in zip(fleet, live, strict=True) if version == "1.1.0"}
        assert moved <= now
        moved = now
        shown = manager("GET", f"rollouts/{rollout}").json
        seen.append(shown["percent_bp"])
        assert shown["why"]
        if shown["state"] == "completed":
            break
        base.clock.advance(seconds=61)
    assert shown["state"] == "completed"
    assert sorted(set(seen)) == [500, 2500, 10_000]
    assert seen == sorted(seen)
    assert 0 < len(moved) < 60
    assert set(round_(base, view, fleet)) == {"1.1.0"}
    assert [stage["state"] for stage in shown["stages"]] == ["passed"] * 3


def test_a_stage_soaks_for_its_time_and_says_so(base: TestServer, view: TufView, manager: Caller) -> None:
    fleet = settled(base, view)
    rollout = start(manager, stages=[{"percent_bp": 5000, "soak_s": 600}, {"percent_bp": 10_000}])
    round_(base, view, fleet)
    assert "soaks until" in manager("GET", f"rollouts/{rollout}").json["why"]
    base.clock.advance(seconds=599)
    base.tick()
    assert manager("GET", f"rollouts/{rollout}").json["percent_bp"] == 5000
    base.clock.advance(seconds=1)
    base.tick()
    assert manager("GET", f"rollouts/{rollout}").json["percent_bp"] == 10_000


def test_a_bad_candidate_halts_and_everyone_is_brought_back(
    base: TestServer, view: TufView, manager: Caller
) -> None:
    fleet = settled(base, view)
    for device in fleet:
        device.error_every = 2
    rollout = start(manager, stages=[{"percent_bp": 2500, "min_inferences": 10}, {"percent_bp": 10_000}])
    live = round_(base, view, fleet)
    exposed = live.count("1.1.0")
    assert 0 < exposed < 60
    shown = manager("GET", f"rollouts/{rollout}").json
    assert shown["state"] == "rolling_back"
    assert "candidate inferences failed" in shown["why"]
    assert shown["stages"][0]["state"] == "failed"

    assert set(round_(base, view, fleet)) == {"1.0.0"}
    base.clock.advance(seconds=5)
    base.tick()
    shown = manager("GET", f"rollouts/{rollout}").json
    assert shown["state"] == "rolled_back"
    assert shown["counts"]["devices_exposed"] == exposed
    assert shown["counts"]["candidate"]["errors"] == exposed * 10


def test_a_person_raises_pauses_resumes_halts_and_turns_back(
    base: TestServer, view: TufView, manager: Caller
) -> None:
    fleet = settled(base, view)
    rollout = start(manager, auto_advance=False)
    raised = manager("POST", f"rollouts/{rollout}/set-percent", {"percent_bp": 4000}).json
    assert (raised["percent_bp"], raised["stage"]) == (4000, 1)
    at_40 = round_(base, view, fleet).count("1.1.0")
    assert 10 <= at_40 <= 40
    manager("POST", f"rollouts/{rollout}/set-percent", {"percent_bp": 100}).refused(
        409, "illegal-transition", saying="can only be raised"
    )

    assert manager("POST", f"rollouts/{rollout}/pause").json["state"] == "paused"
    manager("POST", f"rollouts/{rollout}/pause").refused(409, "illegal-transition")
    late = enrol_fleet(base, [f"late-{number}" for number in range(30)])
    assert set(round_(base, view, late)) == {"1.0.0"}  # no further device starts
    assert round_(base, view, fleet).count("1.1.0") == at_40

    assert manager("POST", f"rollouts/{rollout}/resume").json["state"] == "running"
    assert "1.1.0" in round_(base, view, late)

    assert manager("POST", f"rollouts/{rollout}/halt").json["state"] == "halted"
    assert round_(base, view, fleet).count("1.1.0") == at_40
    assert manager("POST", f"rollouts/{rollout}/rollback").json["state"] == "rolling_back"
    assert set(round_(base, view, [*fleet, *late])) == {"1.0.0"}
    base.clock.advance(seconds=5)
    base.tick()
    shown = manager("GET", f"rollouts/{rollout}").json
    assert shown["state"] == "rolled_back"
    for action in ("start", "pause", "resume", "halt", "rollback", "abort", "approve"):
        manager("POST", f"rollouts/{rollout}/{action}").refused(409, "illegal-transition")


def test_a_second_person_approves(base: TestServer, manager: Caller) -> None:
    rollout = manager("POST", "rollouts", {**CANARY, "requires_approval": True}).json["id"]
    manager("POST", f"rollouts/{rollout}/start").refused(409, "illegal-transition", saying="approval")
    manager("POST", f"rollouts/{rollout}/approve").refused(403, "forbidden", saying="somebody else")
    bob = Principal(name="bob", role=Role.FLEET_MANAGER)
    other = Caller(base.url, create_token(base.services.registry, bob, base.clock))
    assert other("POST", f"rollouts/{rollout}/approve").json["approved_by"] == "bob"
    assert manager("POST", f"rollouts/{rollout}/start").json["state"] == "running"


def test_an_aborted_draft_frees_its_cohort(base: TestServer, manager: Caller) -> None:
    first = manager("POST", "rollouts", CANARY).json["id"]
    before = fingerprint(base.data)
    answer = manager("POST", "rollouts", CANARY)
    answer.refused(409, "rollout-conflict", saying=first)
    assert fingerprint(base.data) == before
    assert manager("POST", f"rollouts/{first}/abort").json["state"] == "aborted"
    second = start(manager)
    manager("POST", f"rollouts/{second}/abort").refused(409, "illegal-transition", saying="roll it back")


REFUSALS: tuple[tuple[dict[str, Any], int, str, str], ...] = (
    ({"version": "9.9.9"}, 404, "not-found", "ferry release list"),
    ({"model": "vision/none"}, 404, "not-found", "not published"),
    ({"cohort": "nobody"}, 404, "not-found", "ferry cohort list"),
    ({"strategy": "blue_green"}, 422, "unsupported-strategy", "use canary or recreate"),
    ({"strategy": "shadow"}, 422, "unsupported-strategy", "shadow"),
    ({"strategy": "ab_test"}, 422, "unsupported-strategy", "ab_test"),
    ({"strategy": "yolo"}, 422, "", "strategy"),
    ({"stages": []}, 422, "rollout-refused", "1 to 16 stages"),
    ({"stages": [{"percent_bp": 5000}]}, 422, "rollout-refused", "last stage must be 100 %"),
    ({"stages": [{"percent_bp": 10_000}] * 2}, 422, "rollout-refused", "wider than the one before"),
    ({"stages": [{"percent_bp": 0}, {"percent_bp": 10_000}]}, 422, "", "percent_bp"),
    ({"strategy": "recreate", "stages": STAGES}, 422, "rollout-refused", "one stage"),
    ({"max_error_ppm": 1_000_001}, 422, "", "max_error_ppm"),
    ({"poll_interval_s": 0}, 422, "", "poll_interval_s"),
)


@pytest.mark.parametrize(("changes", "status", "kind", "saying"), REFUSALS)
def test_a_rollout_that_could_not_work_is_refused(
    changes: dict[str, Any], status: int, kind: str, saying: str, base: TestServer, manager: Caller
) -> None:
    before = fingerprint(base.data)
    manager("POST", "rollouts", {**CANARY, **changes}).refused(status, kind, saying=saying)
    assert fingerprint(base.data) == before


def test_a_withdrawn_release_enters_no_rollout(base: TestServer, manager: Caller) -> None:
    draft = manager("POST", "rollouts", CANARY).json["id"]
    assert manager("POST", "models/vision/digits/releases/1.1.0/withdraw").json["withdrawn"]
    before = fingerprint(base.data)
    manager("POST", f"rollouts/{draft}/start").refused(422, "rollout-refused", saying="withdrawn")
    manager("POST", "rollouts", {**CANARY, "cohort": "everyone"}).refused(422, "rollout-refused")
    assert fingerprint(base.data) == before


def test_a_release_below_the_floor_enters_no_rollout(base: TestServer, manager: Caller) -> None:
    """Devices would refuse it: say so before anybody waits for them."""
    draft = manager("POST", "rollouts", CANARY).json["id"]
    base.publish(TinyRelease(version="2.0.0", counter=5, floor=5, seed=3))
    before = fingerprint(base.data)
    manager("POST", f"rollouts/{draft}/start").refused(422, "rollout-refused", saying="below the floor 5")
    assert fingerprint(base.data) == before


def test_the_published_policy_is_what_a_device_needs(
    base: TestServer, view: TufView, manager: Caller
) -> None:
    fleet = settled(base, view, 20)
    manager("PUT", "cohorts/odd", {"condition": {"id": {"$regex": "[13579]$"}}})
    rollout = start(manager, cohort="odd", stages=[{"percent_bp": 10_000}], trial={"inferences": 3})
    policy = view.policy()
    assert policy is not None
    for device in fleet:
        assigned = assign(policy, device.attributes, live_version="1.0.0")
        assert assigned.release is not None
        odd = device.id[-1] in "13579"
        assert assigned.release.version == ("1.1.0" if odd else "1.0.0")
        assert assigned.rollout == (rollout if odd else "")
        assert assigned.trial.inferences == (3 if odd else 10)
        assert view.releases(assigned.release.version) == [assigned.release.version]


def test_a_tick_without_news_publishes_nothing(base: TestServer, view: TufView, manager: Caller) -> None:
    fleet = settled(base, view, 10)
    start(manager)
    round_(base, view, fleet)
    before, state = versions(base.data), fingerprint(base.data)
    for _ in range(3):
        base.tick()
    assert versions(base.data) == before
    assert fingerprint(base.data) == state


def test_devices_heard_of_are_the_only_ones_counted(base: TestServer, manager: Caller) -> None:
    fleet = enrol_fleet(base, ["a", "b"])
    rollout = start(manager, stages=[{"percent_bp": 10_000}])
    base.tick()
    shown = manager("GET", f"rollouts/{rollout}").json
    assert shown["state"] == "running"
    assert shown["counts"]["devices_exposed"] == 0
    assert "waits for 1 healthy devices" in shown["why"]
    assert {DIGITS in device.live for device in fleet} == {False}


def test_rollouts_are_listed_newest_first_and_by_model(base: TestServer, manager: Caller) -> None:
    first = manager("POST", "rollouts", CANARY).json["id"]
    manager("POST", f"rollouts/{first}/abort")
    base.clock.advance(seconds=1)
    second = manager("POST", "rollouts", CANARY).json["id"]
    listed = manager("GET", "rollouts?model=vision/digits").json["rollouts"]
    assert [item["id"] for item in listed] == [second, first]
    assert manager("GET", "rollouts?model=audio/none").json["rollouts"] == []
    manager("GET", "rollouts/ro-none").refused(404, "not-found", saying="ferry rollout status")
