"""`predict`: outputs and who answered, down the chain, within the deadline, and swapped under load."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_sdk.counts import Counts
from device_sdk.errors import ConfigError, DiskFullError, NoAnswerError
from device_sdk.ferry import Ferry
from device_sdk.model import Model
from device_sdk.records import ModelState, Slot
from edge_runtime.errors import InferenceError, InputError
from ota_contract.report import AnsweredBy, FallbackCause, Window
from tests.support.devices import DIGITS, Device
from tests.support.tiny import image

pytestmark = pytest.mark.usefixtures("no_self_test")


@pytest.fixture(scope="module")
def both(old_device: Device, tmp_path_factory: pytest.TempPathFactory) -> Device:
    """1.1.0 is live and 1.0.0 is previous."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("device_sdk.updater.self_test", lambda *_, **__: 3)
        twin = old_device.copy(tmp_path_factory.mktemp("both") / "twin")
        twin.poll()
    assert twin.live == "1.1.0"
    return twin


@pytest.fixture
def device(both: Device, tmp_path: Path) -> Device:
    return both.copy(tmp_path / "twin")


@pytest.fixture
def ferry(device: Device) -> Iterator[Ferry]:
    with Ferry(device.config, start_agent=False) as ferry:
        yield ferry


class Wrapped:
    """A runtime that does something before it answers."""

    accelerator = "cpu"

    def __init__(self, inner: Any, before: Callable[[], None]) -> None:
        self._inner, self._before = inner, before

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self._before()
        result: dict[str, Any] = self._inner.run(inputs)
        return result

    def close(self) -> None:
        self._inner.close()


def spoil(model: Model, before: Callable[[], None], *, which: str = "_live") -> None:
    loaded = getattr(model, which)
    loaded.model = Wrapped(loaded.model, before)


def wait_for(event: threading.Event) -> None:
    event.wait(20)


def fails() -> None:
    raise InferenceError("out of order")


def test_the_live_release_answers_and_says_so(ferry: Ferry) -> None:
    answer = ferry.model("vision/digits").predict({"image": image()})
    assert answer.outputs["scores"].shape == (1, 10)
    assert float(answer.outputs["scores"].sum()) == pytest.approx(1, abs=1e-3)
    assert (answer.answered_by, answer.release) == (AnsweredBy.LIVE, "1.1.0")
    assert (answer.accelerator, answer.reason) == ("cpu", "live")
    assert answer.latency_ms > 0


def test_a_batch_is_answered_row_by_row(ferry: Ferry) -> None:
    model = ferry.model("vision/digits")
    rows = [image(seed) for seed in range(5)]
    together = model.predict({"image": np.concatenate(rows)}).outputs["scores"]
    alone = [model.predict({"image": row}).outputs["scores"][0] for row in rows]
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("deadline_ms", [None, 5000.0])
@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"picture": image()},
        {"image": image(), "more": image()},
        {"image": image().astype(np.float32)},
        {"image": image()[0]},
        {"image": [[1]]},
        {"image": None},
    ],
)
def test_a_wrong_input_raises_and_nothing_falls_back(
    device: Device, ferry: Ferry, inputs: dict[str, Any], deadline_ms: float | None
) -> None:
    model = ferry.model("vision/digits")
    with pytest.raises(InputError):
        model.predict(inputs, deadline_ms=deadline_ms)
    assert model._live is not None
    assert model._live.counts.take(DIGITS, model._live.slot) is None
    assert device.live == "1.1.0"


def test_an_error_is_answered_by_the_previous_release(ferry: Ferry) -> None:
    model = ferry.model("vision/digits")
    spoil(model, fails)
    answer = model.predict({"image": image()})
    assert (answer.answered_by, answer.release) == (AnsweredBy.PREVIOUS, "1.0.0")
    assert answer.reason == "error: out of order"


def test_a_previous_release_that_took_something_else_is_passed_over(ferry: Ferry) -> None:
    """The input is right for the live release: it is no mistake of the caller's."""
    model = ferry.model("vision/digits")
    spoil(model, fails)
    model.predict({"image": image()})
    previous = model._previous
    assert previous is not None
    previous.release = replace(previous.release, inputs=(replace(previous.release.inputs[0], name="other"),))
    with pytest.raises(NoAnswerError) as caught:
        model.predict({"image": image()})
    assert caught.value.reasons["live"] == "out of order"
    assert caught.value.reasons["previous"] == "expected inputs ['other'], got ['image']"


def test_when_every_link_fails_the_reasons_are_told_link_by_link(ferry: Ferry) -> None:
    model = ferry.model("vision/digits")
    spoil(model, fails)
    model.predict({"image": image()})
    spoil(model, fails, which="_previous")
    with pytest.raises(NoAnswerError) as caught:
        model.predict({"image": image()})
    assert caught.value.reasons == {
        "live": "out of order",
        "previous": "out of order",
        "cloud": "no [cloud] is configured",
    }
    assert "out of order" in str(caught.value)


def test_a_slow_model_is_left_behind_at_the_deadline(ferry: Ferry) -> None:
    model = ferry.model("vision/digits")
    hold = threading.Event()
    spoil(model, lambda: wait_for(hold))
    began = time.perf_counter()
    with pytest.raises(NoAnswerError) as caught:
        model.predict({"image": image()}, deadline_ms=50)
    took = time.perf_counter() - began
    hold.set()
    assert 0.045 < took < 2
    assert caught.value.reasons["live"] == "no answer within 50 of 50 ms"
    assert "previous" not in caught.value.reasons  # it would be as late


def test_a_slow_previous_release_cannot_break_the_deadline(ferry: Ferry) -> None:
    model = ferry.model("vision/digits")
    spoil(model, fails)
    model.predict({"image": image()})
    hold = threading.Event()
    spoil(model, lambda: wait_for(hold), which="_previous")
    began = time.perf_counter()
    with pytest.raises(NoAnswerError) as caught:
        model.predict({"image": image()}, deadline_ms=50)
    took = time.perf_counter() - began
    hold.set()
    assert took < 2
    assert caught.value.reasons["previous"] == "no answer within the deadline"


@pytest.mark.parametrize("deadline_ms", [0.0, -5.0])
def test_a_deadline_that_has_passed_is_no_answer(ferry: Ferry, deadline_ms: float) -> None:
    model = ferry.model("vision/digits")
    hold = threading.Event()
    spoil(model, lambda: wait_for(hold))
    with pytest.raises(NoAnswerError):
        model.predict({"image": image()}, deadline_ms=deadline_ms)
    hold.set()


def test_what_is_not_in_the_configuration_is_told(ferry: Ferry) -> None:
    with pytest.raises(ConfigError, match="vision/faces is not among the models"):
        ferry.model("vision/faces")
    assert ferry.model("vision/digits") is ferry.model("vision/digits")


def test_a_closed_model_answers_no_more(device: Device) -> None:
    with Ferry(device.config, start_agent=False) as ferry:
        model = ferry.model("vision/digits")
    for deadline_ms in (None, 50):
        with pytest.raises(NoAnswerError):
            model.predict({"image": image()}, deadline_ms=deadline_ms)


def test_nothing_installed_and_no_cloud_is_no_answer(both: Device, tmp_path: Path) -> None:
    twin = both.copy(tmp_path / "empty")
    twin.slots.write_state(ModelState())
    with pytest.raises(NoAnswerError, match="no release is installed yet"):
        twin.predict()


def test_a_damaged_record_leaves_an_app_running_and_is_told(device: Device) -> None:
    device.slots.state_path.write_bytes(b"{")
    assert device.predict().answered_by == "live"  # by the record before it
    device.slots.record.former_path.write_bytes(b"")
    with pytest.raises(NoAnswerError, match=r"state\.json is damaged"):
        device.predict()


def test_requests_in_flight_end_on_the_release_they_began_with(device: Device, ferry: Ferry) -> None:
    model = ferry.model("vision/digits")
    inside, hold = threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        hold.wait(10)

    spoil(model, wait)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(model.predict({"image": image()})))
    thread.start()
    assert inside.wait(10)
    swap(device)
    model.reload()
    assert model.predict({"image": image()}).release == "1.0.0"
    hold.set()
    thread.join()
    assert answers[0].release == "1.1.0"


def swap(device: Device) -> None:
    """The other release goes live, as the agent would write it."""
    state = device.state
    device.slots.write_state(replace(state, live=state.previous, previous=state.live))


def test_hot_swap_under_eight_threads_fails_no_request(device: Device, ferry: Ferry) -> None:
    model = ferry.model("vision/digits")
    expected = {}
    for _ in range(2):
        answer = model.predict({"image": image()})
        expected[answer.release] = answer.outputs["scores"]
        swap(device)
        model.reload()
    failures: list[BaseException] = []
    answered: dict[str, int] = {"1.0.0": 0, "1.1.0": 0}
    ending = threading.Event()
    lock = threading.Lock()

    def ask(*, within: float | None) -> None:
        try:
            while not ending.is_set():
                answer = model.predict({"image": image()}, deadline_ms=within)
                assert answer.answered_by is AnsweredBy.LIVE
                np.testing.assert_array_equal(answer.outputs["scores"], expected[answer.release])
                with lock:
                    answered[answer.release] += 1
        except BaseException as error:  # noqa: BLE001 - reported by the test
            failures.append(error)

    threads = [
        threading.Thread(target=ask, kwargs={"within": 20_000 if number % 4 == 0 else None})
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    swaps = 0
    ends = time.monotonic() + 60
    while time.monotonic() < ends and not failures and (sum(answered.values()) < 4000 or swaps < 40):
        swap(device)
        model.reload()
        swaps += 1
        time.sleep(0.005)
    ending.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sum(answered.values()) >= 4000
    assert min(answered.values()) > 0
    assert swaps >= 40


def test_two_writes_within_one_tick_of_the_clock_are_both_followed(device: Device, ferry: Ferry) -> None:
    """File systems keep time in steps of milliseconds: the place of the file tells twins apart."""

    model = ferry.model("vision/digits")
    for _ in range(6):
        swap(device)
        os.utime(device.slots.state_path, ns=(10**18, 10**18))
        model.reload()
        assert model.predict({"image": image()}).release == device.live


def test_counts_are_exact_under_threads(ferry: Ferry) -> None:
    model = ferry.model("vision/digits")
    assert model._live is not None

    def ask() -> None:
        for _ in range(100):
            model.predict({"image": image()})

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = model._live.counts.take(DIGITS, model._live.slot)
    assert report is not None
    assert isinstance(report.content, Window)
    assert report.content.inferences == 800


def test_counts_a_full_disk_refused_are_kept_and_handed_over_later(device: Device, ferry: Ferry) -> None:
    model = ferry.model("vision/digits")
    model.predict({"image": image()})

    def no_room(*_: object) -> None:
        raise DiskFullError("no room")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("device_sdk.spool.write_durably", no_room)
        model.flush(interval_s=0, rollout_interval_s=0, now=True)
    model.predict({"image": image()})
    model.flush(interval_s=0, rollout_interval_s=0, now=True)
    windows = [report.content for _, report in ferry._spool.incoming()]
    assert [window.inferences for window in windows if isinstance(window, Window)] == [2]
    assert device.live == "1.1.0"


def test_counts_given_back_are_those_taken() -> None:
    slot = Slot(version="1.0.0", counter=1, manifest_sha256="0" * 64, variant_id="v")
    counts = Counts()
    counts.answered_live()
    counts.fell_back(FallbackCause.ERROR, AnsweredBy.CLOUD)
    counts.fell_back(FallbackCause.DEADLINE, None)
    first = counts.take(DIGITS, slot)
    assert first is not None
    counts.give_back(first)
    second = counts.take(DIGITS, slot)
    assert second is not None
    one, two = first.content, second.content
    assert isinstance(one, Window)
    assert isinstance(two, Window)
    assert replace(two, ended=one.ended) == one
    assert (one.inferences, one.errors) == (3, 1)
    assert counts.take(DIGITS, slot) is None
