from __future__ import annotations

from typing import Any

import pytest

from ferry_cli import rollouts
from tests.ferry_cli.conftest import Api, Ferry

COUNTS = {
    "devices_total": 50,
    "devices_targeted": 5,
    "devices_exposed": 4,
    "devices_healthy": 3,
    "devices_failed": 1,
    "candidate": {"inferences": 100, "errors": 2},
    "control": {"inferences": 900, "errors": 9},
}


def rollout(**changes: Any) -> dict[str, Any]:
    return {
        "id": "r1",
        "model": "vision/digits",
        "version": "1.1.0",
        "base_version": "1.0.0",
        "cohort": "everyone",
        "state": "running",
        "percent_bp": 500,
        "why": "stage 1 of 2 waits",
        "stages": [{"percent_bp": 500, "state": "running"}, {"percent_bp": 10_000, "state": "waiting"}],
        "counts": COUNTS,
    } | changes


def test_rows_are_a_table_for_people_and_json_for_programs(ferry: Ferry, logged_in: Api) -> None:
    models = [{"model": "vision/digits", "latest": "1.1.0", "releases": 2}]
    logged_in.answer("GET", "/api/v1/models", {"models": models})
    people = ferry("model", "list")
    assert people.out.splitlines()[0].split() == ["MODEL", "LATEST", "RELEASES"]
    assert people.out.splitlines()[1].split() == ["vision/digits", "1.1.0", "2"]
    assert ferry("model", "list", "--json").json == models
    logged_in.answer("GET", "/api/v1/models", {"models": []})
    assert "ferry publish" in ferry("model", "list").out


def test_a_devices_own_words_are_printed_and_not_obeyed(ferry: Ferry, logged_in: Api) -> None:
    """Markup of the table printer in an attribute would hide it, or end the command."""
    words = ["[/]", "[bold red]x[/bold red]", ":smile:", "[link=http://x]y[/link]"]
    devices = [{"id": f"d{index}", "hardware": word, "tags": [word]} for index, word in enumerate(words)]
    logged_in.answer("GET", "/api/v1/devices?limit=100", {"devices": devices})
    result = ferry("device", "list")
    assert result.code == 0
    for word in words:
        assert word in result.out
    logged_in.answer("GET", "/api/v1/devices/d0", {"id": "d0", "hardware": "[/]" * 200})
    assert "[/]" * 200 in ferry("device", "show", "d0").out


def test_devices_are_listed_shown_tagged_and_forgotten(ferry: Ferry, logged_in: Api) -> None:
    logged_in.answer("GET", "/api/v1/devices?cohort=eu&limit=3", {"devices": []})
    assert "no devices" in ferry("device", "list", "--cohort", "eu", "--limit", "3").out
    logged_in.answer("PUT", "/api/v1/devices/d0/tags", {"id": "d0"})
    assert "beta, indoor" in ferry("device", "tag", "d0", "beta", "indoor").out
    assert logged_in.requests[-1].body == {"tags": ["beta", "indoor"]}
    logged_in.answer("DELETE", "/api/v1/devices/d0", b"", status=204)
    assert ferry("device", "forget", "d0", "--json").json == {"forgotten": "d0"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["device", "show", "../users"],
        ["device", "forget", "a/b"],
        ["release", "list", "digits"],
        ["release", "show", "vision/../x", "1.0.0"],
        ["rollout", "create", "digits", "1.0.0"],
        ["rollout", "create", "vision/digits", "latest"],
        ["rollout", "create", "vision/digits", "1.0.0", "--stages", "5%,half"],
        ["rollout", "create", "vision/digits", "1.0.0", "--stages", "0"],
        ["rollout", "create", "vision/digits", "1.0.0", "--stages", "101"],
        ["rollout", "create", "vision/digits", "1.0.0", "--max-error-rate", "5"],
        ["rollout", "create", "vision/digits", "1.0.0", "--max-failed", "nan"],
        ["rollout", "set-percent", "r1", "0"],
        ["rollout", "set-percent", "r1", "0.001"],
        ["rollout", "set-percent", "r1", "nan"],
        ["rollout", "set-percent", "r1", "all"],
        ["cohort", "set", "eu", "{"],
        ["cohort", "set", "eu", "[]"],
        ["cohort", "set", "eu", '{"a": {"$where": 1}}'],
        ["cohort", "set", "eu", '{"a": NaN}'],
        ["cohort", "set", "eu", '{"a": {"$regex": "(a*)*"}}'],
        ["cohort", "preview", '{"a": {"$where": 1}}'],
    ],
    ids=" ".join,
)
def test_a_mistake_is_told_before_anything_is_sent(
    ferry: Ferry, logged_in: Api, arguments: list[str]
) -> None:
    result = ferry(*arguments)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("ferry: ")
    assert result.err.count("\n") == 1
    assert logged_in.requests == []


def test_cohorts_are_set_previewed_and_listed(ferry: Ferry, logged_in: Api) -> None:
    rule = {"region": "eu"}
    logged_in.answer("PUT", "/api/v1/cohorts/europe", {"name": "europe", "condition": rule})
    assert '{"region": "eu"}' in ferry("cohort", "set", "europe", '{"region": "eu"}').out
    assert logged_in.requests[-1].body == {"condition": rule}
    preview = {"matching": 2, "total": 9, "devices": ["a", "b"]}
    logged_in.answer("GET", "/api/v1/cohorts/europe/preview", preview)
    assert "2 of 9 known devices" in ferry("cohort", "preview", "europe").out
    logged_in.answer("POST", "/api/v1/cohorts/preview", preview)
    assert ferry("cohort", "preview", '{"region": "eu"}', "--json").json == preview
    logged_in.answer("GET", "/api/v1/cohorts", {"cohorts": [{"name": "europe", "condition": rule}]})
    assert "europe" in ferry("cohort", "list").out


def test_releases_are_listed_shown_and_withdrawn(ferry: Ferry, logged_in: Api) -> None:
    variant = {
        "id": "onnx-fp32",
        "runtime": "onnx",
        "precision": "fp32",
        "metrics": {"size_bytes": 12},
        "verification": {"status": "passed"},
    }
    release = {"version": "1.0.0", "counter": 1, "published": "2026-01-02T00:00:00Z", "withdrawn": False}
    base = "/api/v1/models/vision/digits/releases"
    logged_in.answer("GET", base, {"releases": [release]})
    assert "1.0.0" in ferry("release", "list", "vision/digits").out
    logged_in.answer("GET", f"{base}/1.0.0", {**release, "manifest": {"variants": [variant]}})
    assert "onnx-fp32" in ferry("release", "show", "vision/digits", "1.0.0").out
    logged_in.answer("POST", f"{base}/1.0.0/withdraw", release)
    assert "withdrawn" in ferry("release", "withdraw", "vision/digits", "1.0.0").out


def test_a_rollout_is_drafted_in_basis_points_and_parts_per_million(ferry: Ferry, logged_in: Api) -> None:
    logged_in.answer("POST", "/api/v1/rollouts", rollout(state="draft"))
    logged_in.answer("POST", "/api/v1/rollouts/r1/start", rollout())
    arguments = ["rollout", "create", "vision/digits", "1.1.0", "--stages", "5%:600,12.5,100%", "--start"]
    result = ferry(*arguments, "--min-healthy", "2", "--max-error-rate", "0.02", "--manual")
    assert result.code == 0
    assert "running" in result.out
    body = logged_in.requests[0].body
    assert [(stage["percent_bp"], stage["soak_s"]) for stage in body["stages"]] == [
        (500, 600),
        (1250, 0),
        (10_000, 0),
    ]
    assert (body["max_error_ppm"], body["auto_advance"], body["stages"][0]["min_healthy"]) == (
        20_000,
        False,
        2,
    )
    assert logged_in.requests[1].path == "/api/v1/rollouts/r1/start"


def test_recreate_is_one_stage_of_everyone(ferry: Ferry, logged_in: Api) -> None:
    logged_in.answer("POST", "/api/v1/rollouts", rollout())
    assert ferry("rollout", "create", "vision/digits", "1.1.0", "--strategy", "recreate").code == 0
    assert [stage["percent_bp"] for stage in logged_in.requests[0].body["stages"]] == [10_000]


@pytest.mark.parametrize("verb", ["start", "pause", "resume", "halt", "rollback", "approve", "abort"])
def test_every_verb_is_a_post(ferry: Ferry, logged_in: Api, verb: str) -> None:
    logged_in.answer("POST", f"/api/v1/rollouts/r1/{verb}", rollout())
    assert ferry("rollout", verb, "r1", "--json").json["id"] == "r1"


def test_a_percentage_is_told_in_basis_points(ferry: Ferry, logged_in: Api) -> None:
    logged_in.answer("POST", "/api/v1/rollouts/r1/set-percent", rollout(percent_bp=1250))
    assert "12.5%" in ferry("rollout", "set-percent", "r1", "12.5%").out
    assert logged_in.requests[0].body == {"percent_bp": 1250}


def test_the_status_says_why_it_is_not_advancing(ferry: Ferry, logged_in: Api) -> None:
    logged_in.answer("GET", "/api/v1/rollouts/r1", rollout())
    out = ferry("rollout", "status", "r1").out
    assert "stage 1 of 2 waits" in out
    assert "3 healthy, 1 failed, 4 exposed, 5 targeted of 50" in out
    assert "2 of 100 inferences" in out
    assert "vision/digits 1.0.0 → 1.1.0" in out
    logged_in.answer("GET", "/api/v1/rollouts?model=vision%2Fdigits", {"rollouts": [rollout()]})
    assert "stage 1 of 2 waits" in ferry("rollout", "status", "--model", "vision/digits").out


@pytest.mark.parametrize(("final", "code"), [("completed", 0), ("rolled_back", 1), ("aborted", 1)])
def test_watch_follows_until_the_end_and_its_code_tells_which(
    ferry: Ferry, logged_in: Api, monkeypatch: pytest.MonkeyPatch, final: str, code: int
) -> None:
    monkeypatch.setattr(rollouts, "_WATCH_INTERVAL_S", 0)
    states = [
        rollout(),
        rollout(),
        rollout(state="paused", why="paused by ada"),
        rollout(state=final, why="over"),
    ]
    logged_in.answer("GET", "/api/v1/rollouts/r1", *states)
    result = ferry("rollout", "watch", "r1")
    assert result.code == code
    lines = result.out.splitlines()
    assert len(lines) == 3  # what did not change is not repeated
    assert lines[-1].endswith("over")


def test_watch_gives_up_in_words(ferry: Ferry, logged_in: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "_WATCH_INTERVAL_S", 0)
    logged_in.answer("GET", "/api/v1/rollouts/r1", rollout())
    result = ferry("rollout", "watch", "r1", "--timeout", "0")
    assert result.code == 1
    assert result.err == "ferry: after 0 s the rollout is running: stage 1 of 2 waits\n"


def test_without_a_login_nothing_is_sent(ferry: Ferry) -> None:
    result = ferry("model", "list")
    assert (result.code, result.out) == (1, "")
    assert "ferry login" in result.err
