"""A release is healthy after real inferences, and gone after real errors or a crash loop."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from device_sdk.agent import Agent
from device_sdk.errors import DeviceError, NoAnswerError
from device_sdk.ferry import Ferry
from device_sdk.model import Model
from device_sdk.state_machine import TRANSITIONS, check_transition
from ota_contract.report import UpdateState
from tests.support.devices import Device, complete, settle
from tests.support.fleet import TestServer
from tests.support.tiny import TinyRelease, image

Behind = Callable[..., Device]

pytestmark = pytest.mark.usefixtures("no_self_test")
BAD = TinyRelease(version="1.2.0", counter=3, seed=3, gives_nan_above=100)


@pytest.fixture
def on_trial(own_server: TestServer, behind: Behind) -> Device:
    """1.2.0, which answers NaN to bright images, is live on trial; 1.0.0 is previous."""
    device = behind(own_server)
    settle(device)
    own_server.publish(BAD)
    complete(own_server, "1.2.0")
    device.poll()
    assert (device.live, device.update) == ("1.2.0", "live_on_trial")
    return device


def ask(model: Model, *, good: int = 0, bad: int = 0) -> None:
    for _ in range(good):
        assert model.predict({"image": image()}).answered_by == "live"
    bright = image()
    bright[0, 0, 0, 0] = 255
    for _ in range(bad):
        answer = model.predict({"image": bright})
        assert (answer.answered_by, answer.release) == ("previous", "1.0.0")
        assert "NaN" in answer.reason


def judge(device: Device, *, good: int = 0, bad: int = 0) -> None:
    with Ferry(device.config, start_agent=False) as ferry:
        ask(ferry.model("vision/digits"), good=good, bad=bad)
    with device.agent() as agent:
        agent._take_windows()


def test_healthy_after_the_inferences_asked_for_and_not_before(on_trial: Device) -> None:
    judge(on_trial, good=9)
    assert on_trial.update == "live_on_trial"
    judge(on_trial, good=1)
    assert (on_trial.live, on_trial.update) == ("1.2.0", "healthy")
    assert on_trial.slots.starts() == 0


def test_half_of_the_answers_may_fail_and_no_more(on_trial: Device) -> None:
    judge(on_trial, good=5, bad=5)
    assert (on_trial.live, on_trial.update) == ("1.2.0", "healthy")


def test_too_many_errors_bring_the_previous_release_back(on_trial: Device) -> None:
    judge(on_trial, good=4, bad=6)
    assert (on_trial.live, on_trial.update) == ("1.0.0", "rolled_back")
    state = on_trial.state
    assert state.previous is None
    assert state.refusals[0].reason == "6 errors in 10 inferences during trial"
    assert on_trial.predict().answered_by == "live"


def test_a_rolled_back_release_is_refused_over_restarts_until_named_anew(
    on_trial: Device, own_server: TestServer
) -> None:
    judge(on_trial, bad=10)
    for _ in range(2):
        on_trial.clock.advance(hours=30)
        assert "1.2.0 is not tried again: 10 errors in 10 inferences" in on_trial.poll()
    assert on_trial.live == "1.0.0"
    own_server.clock.advance(seconds=1)
    stage = {"percent_bp": 10_000, "soak_s": 0, "min_healthy": 99, "min_inferences": 0}
    own_server.roll_out("1.2.0", stages=[stage])
    on_trial.poll()
    assert (on_trial.live, on_trial.update) == ("1.2.0", "live_on_trial")


def test_counts_of_a_trial_survive_restarts(on_trial: Device) -> None:
    for _ in range(5):
        judge(on_trial, good=2)
    assert on_trial.update == "healthy"
    update = on_trial.state.update
    assert update is not None
    assert (update.inferences, update.errors) == (10, 0)


def test_a_crash_loop_brings_the_previous_release_back(on_trial: Device) -> None:
    """Four processes loaded it and none of them ended in good order."""
    for _ in range(4):
        on_trial.slots.note_start()
    with on_trial.agent():
        assert (on_trial.live, on_trial.update) == ("1.0.0", "rolled_back")
    assert "a crash loop" in on_trial.state.refusals[0].reason
    assert on_trial.slots.starts() == 0


def test_three_crashes_are_not_yet_a_loop(on_trial: Device) -> None:
    for _ in range(3):
        on_trial.slots.note_start()
    with on_trial.agent():
        assert on_trial.update == "live_on_trial"


def test_processes_that_end_in_good_order_are_no_crashes(on_trial: Device) -> None:
    for _ in range(8):
        on_trial.predict()
    with on_trial.agent():
        assert on_trial.update == "live_on_trial"


def test_a_release_that_cannot_be_loaded_is_a_crash_loop_and_previous_answers(on_trial: Device) -> None:
    live = on_trial.state.live
    assert live is not None
    model = on_trial.slots.folder(live) / "variants/onnx-fp32/model.onnx"
    data = model.read_bytes()
    model.unlink()
    model.write_bytes(b"\0" * len(data))
    with Ferry(on_trial.config, start_agent=False) as ferry:
        handle = ferry.model("vision/digits")
        for _ in range(4):
            answer = handle.predict({"image": image()})
            assert (answer.answered_by, answer.release) == ("previous", "1.0.0")
            handle.reload()
        with on_trial.agent():
            assert on_trial.update == "rolled_back"
        handle.reload()
        assert handle.predict({"image": image()}).answered_by == "live"


def test_a_live_release_whose_files_vanish_is_installed_again(on_trial: Device) -> None:
    judge(on_trial, good=10)
    live = on_trial.state.live
    assert live is not None
    (on_trial.slots.folder(live) / "variants/onnx-fp32/model.onnx").unlink()
    assert on_trial.predict().answered_by == "previous"
    on_trial.poll()
    assert on_trial.predict().answered_by == "live"
    assert on_trial.live == "1.2.0"
    state = on_trial.state
    assert state.previous is not None
    assert state.previous.version == "1.0.0"


def test_an_update_without_an_end_is_replaced_by_a_newer_policy(
    on_trial: Device, own_server: TestServer
) -> None:
    """Only the latest desired state exists, also in the middle of a trial."""
    complete(own_server, "1.1.0")
    on_trial.poll()
    assert (on_trial.live, on_trial.update) == ("1.1.0", "live_on_trial")


def test_the_table_of_transitions_is_closed() -> None:
    for before in (None, *UpdateState):
        for after in UpdateState:
            if after in TRANSITIONS[before]:
                check_transition(before, after)
            else:
                with pytest.raises(DeviceError):
                    check_transition(before, after)


def test_the_table_in_the_documentation_is_this_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "device.md").read_text()
    rows = re.findall(r"^\| (\w+) \| .* \|(.*)\|$", text.partition("## States of an update")[2], re.MULTILINE)
    told = {state: set(after.replace(",", " ").split()) for state, after in rows if state != "state"}
    assert told == {
        state.value: {after.value for after in TRANSITIONS[state] if after is not UpdateState.OFFERED}
        for state in UpdateState
    }
    assert all(UpdateState.OFFERED in after for after in TRANSITIONS.values())


@pytest.fixture
def first(own_server: TestServer, behind: Behind) -> Device:
    """Its first release is live on trial, and there is nothing before it."""
    own_server.publish(BAD)
    complete(own_server, "1.2.0")
    device = behind(own_server)
    device.clock.now = own_server.clock()
    device.poll()
    assert (device.live, device.state.previous) == ("1.2.0", None)
    return device


def test_a_crash_loop_of_the_only_release_lets_the_app_start_and_is_tried_again(first: Device) -> None:
    """Four power cuts look like one: they must not leave a device without a model for good."""
    for attempt in range(1, 4):
        for _ in range(4):
            first.slots.note_start()
        with first.agent() as agent:
            assert (first.live, first.update) == (None, "rolled_back")
            assert first.state.refusals == ()
            assert "next attempt at" in agent.poll()
            first.clock.advance(seconds=10 * 2**attempt)
            agent.poll()
        update = first.state.update
        assert update is not None
        assert (first.live, update.state.value, update.attempts) == ("1.2.0", "live_on_trial", attempt)
    assert first.predict().answered_by == "live"


def test_errors_do_not_take_the_only_release(first: Device) -> None:
    with Ferry(first.config, start_agent=False) as ferry:
        bright = image()
        bright[0, 0, 0, 0] = 255
        for _ in range(10):
            with pytest.raises(NoAnswerError):
                ferry.model("vision/digits").predict({"image": bright})
    with first.agent() as agent:
        agent._take_windows()
    assert (first.live, first.update) == ("1.2.0", "live_on_trial")
    assert first.predict().answered_by == "live"
    judge(first, good=10)
    assert first.update == "healthy"


def test_an_agent_judges_while_an_app_in_its_process_predicts(on_trial: Device) -> None:
    with Agent(on_trial.config, clock=on_trial.clock, monotonic=on_trial.ticks) as agent:
        model = Model(on_trial.slots.name, on_trial.slots, agent._spool, None, 1)
        ask(model, good=2, bad=8)
        model.flush(interval_s=3600, rollout_interval_s=3600)  # at once while on trial
        agent._take_windows()
        model.reload()
        answer = model.predict({"image": image()})
        assert (answer.answered_by, answer.release) == ("live", "1.0.0")
        model.close()
