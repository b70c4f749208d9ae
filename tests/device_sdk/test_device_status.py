"""`ferry-device status`: where an update stands, what is not tried again and until when, what is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from device_sdk.__main__ import main
from device_sdk.model import Model
from tests.support.devices import AT_ONCE, Device, complete, feed, settle
from tests.support.fleet import TestServer
from tests.support.tiny import TinyRelease

pytestmark = pytest.mark.usefixtures("no_self_test")

Behind = Callable[..., Device]
Status = Callable[[Device], tuple[str, dict[str, Any]]]


@pytest.fixture
def status(capsys: pytest.CaptureFixture[str]) -> Status:
    """The command, in words and as JSON of the one model."""

    def run(device: Device) -> tuple[str, dict[str, Any]]:
        assert main(["status", "--config", str(device.config_path)]) == 0
        words = capsys.readouterr().out
        assert main(["status", "--json", "--config", str(device.config_path)]) == 0
        return words, json.loads(capsys.readouterr().out)

    return run


def model_of(values: dict[str, Any]) -> dict[str, Any]:
    model: dict[str, Any] = values["models"]["vision/digits"]
    return model


@pytest.fixture
def on_trial(own_server: TestServer, behind: Behind) -> Device:
    device = behind(own_server)
    settle(device)
    own_server.roll_out("1.1.0", stages=[{**AT_ONCE[0], "min_healthy": 99}])
    device.clock.now = own_server.clock()
    device.poll()
    assert device.update == "live_on_trial"
    return device


def test_how_far_a_trial_is(on_trial: Device, status: Status) -> None:
    on_trial.slots.note_start()
    with on_trial.agent() as agent:
        model = Model(on_trial.slots.name, on_trial.slots, agent._spool, None, 1)
        feed(model, 4)
        model.flush(interval_s=0, rollout_interval_s=0)
        agent._take_windows()
        words, values = status(on_trial)
        model.close()
    assert "on trial: 4 of 10 inferences, 0 errors (at most 50 % may fail), 2 starts" in words
    assert "(more than 3 are a crash loop)" in words
    assert model_of(values)["trial"] == {
        "inferences": 4,
        "inferences_needed": 10,
        "errors": 0,
        "max_error_ppm": 500_000,
        "starts": 2,
        "max_starts": 3,
    }
    settle(on_trial)
    words, values = status(on_trial)
    assert "on trial" not in words
    assert model_of(values)["trial"] is None


def test_the_last_rollback_and_until_when_it_is_not_tried_again(
    on_trial: Device, own_server: TestServer, status: Status
) -> None:
    for _ in range(4):
        on_trial.slots.note_start()
    at = on_trial.clock.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    with on_trial.agent():
        pass
    words, values = status(on_trial)
    rollout = on_trial.state.refusals[0].rollout
    assert f"last rollback: from 1.1.0 at {at}: 4 starts during trial" in words
    assert f"1.1.0 is not tried again before another rollout than {rollout} names it: 4 starts" in words
    back = model_of(values)["last_rollback"]
    assert (back["version"], back["ended"], back["at"]) == ("1.1.0", "rolled_back", at)
    # What comes after does not make it forgotten.
    own_server.publish(TinyRelease(version="1.2.0", counter=3, seed=4))
    for action in ("halt", "rollback"):
        own_server.client().post("rollouts", rollout, action)
    own_server.tick()
    own_server.clock.advance(seconds=1)
    own_server.roll_out("1.2.0", stages=[{**AT_ONCE[0], "min_healthy": 99}])
    on_trial.clock.now = own_server.clock()
    on_trial.poll()
    words, _ = status(on_trial)
    assert "update to 1.2.0: live on trial" in words
    assert "last rollback: from 1.1.0" in words


def test_a_failed_attempt_says_when_the_next_one_is(
    own_server: TestServer, behind: Behind, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = behind(own_server)
    settle(device)
    complete(own_server, "1.1.0")
    monkeypatch.setattr("device_sdk.slots._SPARE_BYTES", 2**62)
    device.poll()
    words, values = status(device)
    retry_at = model_of(values)["update"]["retry_at"]
    assert retry_at
    assert f"attempt 2 not before {retry_at}" in words
    assert "update to 1.1.0: failed" in words


def test_records_that_are_damaged_are_named(on_trial: Device, status: Status) -> None:
    words, values = status(on_trial)
    assert values["damaged"] == []
    on_trial.slots.state_path.write_bytes(b"{")
    (on_trial.store / "trust" / "record.json").write_bytes(b"")
    words, values = status(on_trial)
    assert "is live" in words  # by the record before
    assert "damaged: " in words
    assert "state.json is damaged" in words
    assert "record.json" in words
    assert "no updates until it is put back" in words
    assert len(values["damaged"]) == 2
    on_trial.slots.record.former_path.write_bytes(b"")
    words, _ = status(on_trial)
    assert "vision/digits: " in words
    assert "state.json is damaged" in words


def test_a_window_counted_before_a_crash_is_not_counted_again(on_trial: Device) -> None:
    """The power went between the count and the window's way to the queue."""
    with on_trial.agent() as agent:
        model = Model(on_trial.slots.name, on_trial.slots, agent._spool, None, 1)
        feed(model, 6)
        model.close()
        path, report = next(iter(agent._spool.incoming()))
        agent._take_windows()
        (on_trial.store / "reports" / "outgoing" / path.name).rename(path)
    with on_trial.agent() as agent:
        agent._take_windows()
    update = on_trial.state.update
    assert update is not None
    assert (update.inferences, update.state.value, update.counted) == (6, "live_on_trial", report.id)
