"""Reports: each once, durable, bounded, without inputs; and the token they are sent with."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_sdk.durable import read_bounded
from device_sdk.errors import ConfigError, EnrolmentError, NetworkError, StoreError
from device_sdk.ferry import Ferry
from device_sdk.spool import Spool
from ota_contract.report import AnsweredBy, Report, Transition, UpdateState, Window
from tests.support.devices import DIGITS, Device, feed, settle
from tests.support.fleet import TestServer
from tests.support.network import Proxy, answer, drop_after
from tests.support.tiny import image

Behind = Callable[..., Device]

pytestmark = pytest.mark.usefixtures("no_self_test")
REPORTS = "/api/v1/reports"


@pytest.fixture
def device(server: TestServer, proxy: Proxy, behind: Behind) -> Device:
    return behind(server, proxy.url)


def told(server: TestServer, device: Device) -> list[dict[str, Any]]:
    """What the server knows of it, the oldest first."""
    found = server.client().get("devices", device.config.device.device_id)
    return list(reversed(found["history"]))


def transitions(reports: list[dict[str, Any]]) -> list[str]:
    return sorted(report["transition"]["state"] for report in reports if "transition" in report)


def test_every_transition_and_every_count_arrives_once(server: TestServer, device: Device) -> None:
    settle(device, inferences=12)
    reports = told(server, device)
    states = ["offered", "downloading", "verified", "staged", "self_tested", "live_on_trial", "healthy"]
    assert transitions(reports) == sorted(states)
    windows = [report["window"] for report in reports if "window" in report]
    assert sum(window["inferences"] for window in windows) == 12
    assert windows[0]["answered_by"] == {"live": 12}
    with device.agent() as agent:
        assert agent._spool.waiting() == 1  # the last state once more, of the same id
        agent.report_now()
    assert transitions(told(server, device)) == sorted(states)


def test_a_lost_answer_is_sent_again_and_counts_once(
    server: TestServer, device: Device, proxy: Proxy
) -> None:
    proxy.misbehave(REPORTS, drop_after(0), times=1)
    with device.agent() as agent:
        agent.poll()
        queued = agent._spool.waiting()
        with pytest.raises(NetworkError):
            agent.report_now()
        assert agent._spool.waiting() == queued == 6  # the server has them; this device cannot know
        agent.report_now()
        assert agent._spool.waiting() == 0
    assert len(transitions(told(server, device))) == 6


def test_reports_survive_restarts_and_a_server_that_is_away(
    server: TestServer, device: Device, proxy: Proxy
) -> None:
    with device.agent() as agent:
        agent.poll()
    proxy.dead = True
    for _ in range(2):
        with device.agent() as agent:
            with pytest.raises(NetworkError):
                agent.report_now()
            assert agent._spool.waiting() >= 6
    proxy.heal()
    with device.agent() as agent:
        agent.report_now()
        assert agent._spool.waiting() == 0
    assert len(transitions(told(server, device))) == 6


def test_retry_after_of_the_reports_is_obeyed(device: Device, proxy: Proxy) -> None:
    proxy.misbehave(REPORTS, answer(429, Retry_After="90000"))
    with device.agent() as agent:
        agent.step()
        assert agent._next_report - device.ticks.now_s == 24 * 3600
        proxy.forget()
        agent.step()
        assert "POST /api/v1/reports" not in proxy.paths()


def test_a_batch_the_server_calls_malformed_does_not_block_the_rest(device: Device, proxy: Proxy) -> None:
    proxy.misbehave(REPORTS, answer(422, b'{"detail": "no"}'), times=1)
    with device.agent() as agent:
        agent.poll()
        agent.report_now()
        assert agent._spool.waiting() == 0


def window(inferences: int = 1) -> Window:
    now = datetime.now(UTC)
    return Window(
        started=now, ended=now, inferences=inferences, errors=0, answered_by={AnsweredBy.LIVE: inferences}
    )


def report(number: int, content: Window | Transition | None = None) -> Report:
    return Report(id=f"{number:032}", name=DIGITS, version="1.0.0", content=content or window())


def test_both_queues_are_bounded_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device_sdk.spool._MAX_QUEUED", 20)
    spool = Spool(tmp_path / "reports")
    for number in range(50):
        spool.add(report(number))
        spool.drop(report(number))
    assert [item.id for _, item in spool.outgoing(100)] == [f"{number:032}" for number in range(30, 50)]
    assert len(list(spool.incoming())) == 20


def test_a_torn_report_is_dropped_and_one_that_cannot_be_read_now_is_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "reports")
    for number in range(3):
        spool.add(report(number))
    paths = [path for path, _ in spool.outgoing(9)]
    paths[0].write_bytes(b'{"id":')

    def read(path: Path, max_bytes: int) -> bytes:
        if path == paths[1]:
            raise OSError(24, "Too many open files")
        return read_bounded(path, max_bytes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("device_sdk.spool.read_bounded", read)
        assert [item.id[-1] for _, item in spool.outgoing(9)] == ["2"]
    assert [item.id[-1] for _, item in spool.outgoing(9)] == ["1", "2"]


def test_more_than_one_batch_is_sent_in_pieces(device: Device, proxy: Proxy) -> None:
    with device.agent() as agent:
        agent.poll()
        for number in range(140):
            moment = Transition(state=UpdateState.OFFERED, at=datetime.now(UTC), reason="ü" * 256)
            agent._spool.add(report(number, moment))
        proxy.forget()
        agent.report_now()
        assert agent._spool.waiting() == 0
    sizes = [len(seen.body) for seen in proxy.seen if seen.path == REPORTS]
    assert len(sizes) == 2
    assert max(sizes) < 256 * 1024


def test_no_input_and_no_output_leaves_the_process(device: Device, proxy: Proxy) -> None:
    """Bytes planted in inputs are found neither in any file of the store nor on the wire."""
    settle(device)
    marker = b"TOP-SECRET-PIXELS-0123456789-ABCDEFGHIJKLMNOPQRSTUVWXYZ-abcdefgh"
    assert len(marker) == 64
    secret = np.frombuffer(marker, dtype=np.uint8).reshape(1, 8, 8, 1)
    as_list = json.dumps(secret.reshape(-1).tolist(), separators=(",", ":")).encode()
    with device.agent() as agent:
        with Ferry(device.config, start_agent=False) as ferry:
            model = ferry.model("vision/digits")
            outputs = model.predict({"image": secret}).outputs["scores"]
            feed(model, 3)
            with pytest.raises(ValueError, match="image"):
                model.predict({"image": secret.astype(np.int8)})
        dropped = [path.read_bytes() for path in (device.store / "reports").rglob("*.json")]
        agent.report_now()
    wire = [seen.body for seen in proxy.seen]
    files = [path.read_bytes() for path in device.store.rglob("*") if path.is_file()]
    assert any(b'"window"' in body for body in wire)
    for data in (*wire, *files, *dropped):
        for secret_form in (marker, as_list, marker[:16], outputs.tobytes(), str(outputs[0, 0]).encode()):
            assert secret_form not in data


def test_windows_count_live_fallbacks_and_errors(device: Device) -> None:
    settle(device)
    with Ferry(device.config, start_agent=False) as ferry:
        model = ferry.model("vision/digits")
        feed(model, 5)
        assert model._live is not None
        model._live.model.close()  # every run raises from now on
        for _ in range(2):
            with pytest.raises(Exception, match="nothing could answer"):
                model.predict({"image": image()})
        model.flush(interval_s=0, rollout_interval_s=0, now=True)
        content = [item.content for _, item in ferry._spool.incoming()][-1]
    assert isinstance(content, Window)
    assert (content.inferences, content.errors) == (7, 2)
    assert content.answered_by == {AnsweredBy.LIVE: 5}
    assert {cause.value: count for cause, count in content.fallbacks.items()} == {"error": 2}


def test_a_device_enrols_once_and_keeps_its_token_to_itself(device: Device, proxy: Proxy) -> None:
    settle(device)
    settle(device)
    token = device.store / "token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert proxy.paths().count("POST /api/v1/devices") == 1
    sent = {seen.authorization for seen in proxy.seen if seen.path == REPORTS}
    assert sent == {f"Bearer {token.read_text()}"}
    # No other request carries any token: metadata and blobs are public, and a CDN is no confidant.
    assert {seen.authorization for seen in proxy.seen if seen.method == "GET"} == {""}


def test_a_token_the_server_no_longer_knows_is_given_up_and_asked_for_anew(
    server: TestServer, device: Device
) -> None:
    settle(device)
    server.client().delete("devices", device.config.device.device_id)
    with device.agent() as agent:
        with pytest.raises(EnrolmentError, match="does not accept this device"):
            agent.report_now()
        assert not (device.store / "token").exists()
        agent.report_now()
    assert told(server, device)


def test_a_device_enrolled_before_is_told_what_to_do(device: Device) -> None:
    settle(device)
    (device.store / "token").unlink()
    with device.agent() as agent:
        waiting = agent._spool.waiting()
        with pytest.raises(EnrolmentError, match="ferry device forget device-"):
            agent.report_now()
        assert agent._spool.waiting() == waiting


def test_without_an_enrolment_token_updates_go_on_and_status_says_so(
    server: TestServer, behind: Behind
) -> None:
    device = behind(server)
    text = device.config_path.read_text()
    device.config_path.write_text(text[: text.index("[enrolment]")])
    with device.agent() as agent:
        agent.step()
    assert device.live == "1.0.0"
    assert "no [enrolment] token_file" in device.activity()["last_error"]["message"]


@pytest.mark.parametrize("content", [b"", b"a\nb", b"\xff\xfe", "tökén".encode(), b"a b"])
def test_an_enrolment_token_that_is_none_is_told_before_it_is_sent(
    device: Device, proxy: Proxy, content: bytes
) -> None:
    token = device.config.enrolment_token
    assert token is not None
    token.write_bytes(content)
    with device.agent() as agent, pytest.raises(ConfigError, match=r"enrolment\.token"):
        agent.report_now()
    assert proxy.seen == []


def test_a_missing_enrolment_token_file_is_told(device: Device) -> None:
    token = device.config.enrolment_token
    assert token is not None
    token.unlink()
    with device.agent() as agent, pytest.raises(ConfigError, match="No such file"):
        agent.report_now()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (201, b"{}", EnrolmentError),
        (201, b'{"token": "a b"}', EnrolmentError),
        (201, '{"token": "é"}'.encode(), EnrolmentError),
        (201, b"<html>", EnrolmentError),
        (401, b"", EnrolmentError),
        (500, b"", NetworkError),
        (429, b"", NetworkError),
    ],
)
def test_a_strange_answer_to_an_enrolment_keeps_no_token(
    device: Device, proxy: Proxy, status: int, body: bytes, error: type[Exception]
) -> None:
    proxy.misbehave("/devices$", answer(status, body))
    with device.agent() as agent, pytest.raises(error):
        agent.report_now()
    assert not (device.store / "token").exists()


def test_a_damaged_token_file_is_one_error_of_ours(device: Device) -> None:
    settle(device)
    (device.store / "token").write_bytes(b"\xff\xfe\xfd")
    with device.agent() as agent, pytest.raises(StoreError, match="token cannot be read"):
        agent.report_now()


def test_reports_name_the_rollout_and_the_arm(own_server: TestServer, behind: Behind) -> None:
    device = behind(own_server)
    settle(device)
    own_server.clock.advance(seconds=1)
    stage = {"percent_bp": 10_000, "soak_s": 0, "min_healthy": 99, "min_inferences": 0}
    rollout = own_server.roll_out("1.1.0", stages=[stage])
    settle(device)
    mine = [item for item in told(own_server, device) if item["version"] == "1.1.0"]
    assert {(item["rollout"], item["arm"]) for item in mine} == {(rollout, "candidate")}
    assert transitions(mine)[-1] == "verified"
    own_server.tick()
    counts = own_server.client().get("rollouts", rollout)["counts"]
    assert (counts["devices_exposed"], counts["candidate"]["inferences"]) == (1, 12)
