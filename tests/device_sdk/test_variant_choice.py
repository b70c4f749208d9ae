"""From signed policy to the release and variant of this very device."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ota_contract.bucketing import bucket
from ota_contract.errors import UnknownFormatError
from tests.support.devices import AT_ONCE, Device, complete, settle
from tests.support.fleet import TestServer
from tests.support.tiny import TinyRelease

Behind = Callable[..., Device]

pytestmark = pytest.mark.usefixtures("no_self_test")


def test_nothing_happens_without_a_policy(own_server: TestServer, behind: Behind) -> None:
    device = behind(own_server)
    text = device.config_path.read_text().replace("vision/digits", "vision/faces")
    device.config_path.write_text(text)
    assert device.poll() == "vision/faces: the server has no policy for it yet"
    assert device.live is None


def test_a_device_takes_what_its_bucket_says(own_server: TestServer, behind: Behind) -> None:
    own_server.clock.advance(seconds=1)
    rollout = own_server.roll_out(
        "1.1.0", strategy="canary", stages=[{**AT_ONCE[0], "percent_bp": 5000, "min_healthy": 50}, *AT_ONCE]
    )
    devices = [behind(own_server) for _ in range(20)]  # all in one arm: less than one in 500,000
    for device in devices:
        device.poll()
        live = device.state.live
        assert live is not None
        in_candidate = bucket(rollout, device.config.device.device_id) < 5000
        assert (live.version, live.arm.value) == (
            ("1.1.0", "candidate") if in_candidate else ("1.0.0", "control")
        )
    assert {device.live for device in devices} == {"1.0.0", "1.1.0"}


def test_a_cohort_rule_looks_at_attributes_and_at_tags_heard_of(
    own_server: TestServer, behind: Behind
) -> None:
    own_server.client().put("cohorts", "pilots", body={"condition": {"tags": {"$in": ["pilot"]}}})
    device = behind(own_server)
    settle(device)
    own_server.clock.advance(seconds=1)
    own_server.roll_out("1.1.0", cohort="pilots", stages=AT_ONCE)
    device.poll()
    assert device.live == "1.0.0"
    own_server.client().put("devices", device.config.device.device_id, "tags", body={"tags": ["pilot"]})
    with device.agent() as agent:
        agent.report_now()  # the answer brings the tags
        agent.poll()
    assert device.live == "1.1.0"


@pytest.mark.parametrize(
    ("release", "table", "says"),
    [
        (TinyRelease(version="1.2.0", counter=3, ram_bytes=2**40), "", "bytes of RAM, has"),
        (TinyRelease(version="1.2.0", counter=3, runtime_version="99.0"), "", "needs onnx 99.0 or newer"),
        (TinyRelease(version="1.2.0", counter=3), 'runtimes = ["tflite"]', "has no runtime onnx"),
        (TinyRelease(version="1.2.0", counter=3), "runtimes = []", "has no runtime onnx"),
    ],
)
def test_an_incompatible_release_is_recorded_said_and_changes_nothing(
    own_server: TestServer, behind: Behind, release: TinyRelease, table: str, says: str
) -> None:
    device = behind(own_server)
    settle(device)
    if table:
        text = device.config_path.read_text().replace('runtimes = ["onnx"]', table)
        device.config_path.write_text(text)
    own_server.publish(release)
    complete(own_server, "1.2.0")
    sentence = device.poll()
    assert says in sentence
    assert (device.live, device.update) == ("1.0.0", "incompatible")
    assert device.predict().release == "1.0.0"
    # Not looked at again for the same policy: nothing is written, nothing is fetched.
    before = device.footprint()
    assert "is not tried again" in device.poll()
    assert device.footprint() == before
    update = device.state.update
    assert update is not None
    assert says in update.reason


def test_a_release_that_fits_after_all_is_taken_once_the_policy_names_it_anew(
    own_server: TestServer, behind: Behind
) -> None:
    device = behind(own_server)
    settle(device)
    own_server.publish(TinyRelease(version="1.2.0", counter=3, ram_bytes=4 * 2**30))
    complete(own_server, "1.2.0")
    text = device.config_path.read_text()
    device.config_path.write_text(text.replace("[device]", "[device]\nram_bytes = 1000"))
    device.poll()
    assert device.update == "incompatible"
    device.config_path.write_text(text.replace("[device]", f"[device]\nram_bytes = {2**40}"))
    device.poll()
    assert device.update == "incompatible"
    own_server.clock.advance(seconds=1)
    own_server.roll_out("1.2.0", stages=[{**AT_ONCE[0], "min_healthy": 99}])
    device.poll()
    assert (device.live, device.update) == ("1.2.0", "live_on_trial")


def test_the_policy_is_read_again_right_before_going_live(
    own_server: TestServer, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A halt that comes while a device downloads keeps it from starting, also on its first release."""
    device = behind(own_server)
    settle(device)
    own_server.clock.advance(seconds=1)
    rollout = own_server.roll_out("1.1.0", stages=[{**AT_ONCE[0], "min_healthy": 99}])

    def halt_meanwhile(*_: object, **__: object) -> int:
        own_server.client().post("rollouts", rollout, "halt")
        return 3

    monkeypatch.setattr("device_sdk.updater.self_test", halt_meanwhile)
    assert "policy changed to 1.0.0 before 1.1.0 went live" in device.poll()
    assert (device.live, device.update) == ("1.0.0", "failed")
    assert device.state.candidate is None


def test_a_first_release_halted_meanwhile_does_not_go_live(
    own_server: TestServer, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the policy names no release any more there is nothing to compare with, and nothing to start."""
    own_server.publish(TinyRelease(model="vision/faces"))
    rollout = own_server.roll_out("1.0.0", model="vision/faces", stages=[{**AT_ONCE[0], "min_healthy": 99}])
    device = behind(own_server)
    text = device.config_path.read_text().replace("vision/digits", "vision/faces")
    device.config_path.write_text(text)

    def halt_meanwhile(*_: object, **__: object) -> int:
        own_server.client().post("rollouts", rollout, "halt")
        return 3

    monkeypatch.setattr("device_sdk.updater.self_test", halt_meanwhile)
    assert "policy changed to no release before 1.0.0 went live" in device.poll()
    assert not list((device.store / "models/vision/faces/releases").glob("[0-9]*/live"))
    with device.agent() as agent:
        assert agent._live() == {}


def test_one_models_failure_keeps_no_other_back(
    own_server: TestServer, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = behind(own_server)
    text = device.config_path.read_text()
    device.config_path.write_text(text.replace('["vision/digits"]', '["vision/faces", "vision/digits"]'))
    with device.agent() as agent:
        genuine = agent._trust.policy

        def policy(name: object) -> object:
            if str(name) == "vision/faces":
                raise UnknownFormatError("rollout policy: format 'ferry.policy/9'")
            return genuine(name)  # type: ignore[arg-type]

        monkeypatch.setattr(agent._trust, "policy", policy)
        sentences, failed = agent.poll_once()
    assert device.live == "1.0.0"
    assert failed
    assert "ferry.policy/9" in sentences
