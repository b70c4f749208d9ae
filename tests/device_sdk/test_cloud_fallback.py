"""The end of the chain: a real endpoint, and one that is dead, slow, lying or busy."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn

from device_sdk.cloud import CloudModel
from device_sdk.config import CloudConfig
from device_sdk.errors import CloudError, NoAnswerError
from device_sdk.ferry import Ferry
from device_sdk.model import Model
from device_sdk.records import ModelState
from device_sdk.transport import Limits, Transport
from edge_runtime.cloud_endpoint import create_endpoint
from edge_runtime.errors import InferenceError
from edge_runtime.loading import load
from edge_runtime.preprocessing import Preprocessing
from ota_contract.tensors import Datatype, Tensor
from tests.support.devices import Device, Ticks
from tests.support.network import (
    Fault,
    Proxy,
    answer,
    captive_portal,
    drop_after,
    redirect,
    run_proxy,
    trickle,
)
from tests.support.tiny import TinyRelease, image, write_package

pytestmark = pytest.mark.usefixtures("no_self_test")
SIGNATURE = (Tensor(name="scores", datatype=Datatype.FP32, shape=(-1, 10)),)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`ferry cloud` on loopback, serving the digits of 9.9.9."""
    folder = tmp_path_factory.mktemp("cloud") / "package"
    release = write_package(folder, TinyRelease(version="9.9.9", seed=9))
    app = create_endpoint(
        release, load(release, release.variants[0], folder), Preprocessing.of_release(release, folder)
    )
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def cloud(endpoint: str) -> Iterator[Proxy]:
    with run_proxy(endpoint) as proxy:
        yield proxy


@pytest.fixture
def device(old_device: Device, cloud: Proxy, tmp_path: Path) -> Device:
    twin = old_device.copy(tmp_path / "twin")
    table = f'[cloud]\nurl = "{cloud.url}"\ntimeout_ms = 2000\n'
    twin.config_path.write_text(twin.config_path.read_text() + table)
    return twin


@pytest.fixture
def model(device: Device) -> Iterator[Model]:
    """Of a device that has one release, which is out of order."""
    with Ferry(device.config, start_agent=False) as ferry:
        model = ferry.model("vision/digits")
        spoil(model)
        yield model


def spoil(model: Model, wait_s: float = 0.0) -> None:
    class Broken:
        accelerator = "cpu"

        def run(self, _: Any) -> dict[str, Any]:
            if wait_s:
                time.sleep(wait_s)
            raise InferenceError("out of order")

        def close(self) -> None:
            pass

    assert model._live is not None
    model._live.model = Broken()


def response(**output: Any) -> bytes:
    tensor = {"name": "scores", "datatype": "FP32", "shape": [1, 10], "data": [0.1] * 10, **output}
    return json.dumps({"model_name": "digits", "model_version": "7", "outputs": [tensor]}).encode()


def test_a_missing_model_is_answered_by_the_cloud(device: Device) -> None:
    device.slots.write_state(ModelState())
    answered = device.predict()
    assert (answered.answered_by, answered.release, answered.accelerator) == ("cloud", "9.9.9", "cloud")
    assert answered.reason == "missing: no release is installed yet"
    assert answered.outputs["scores"].shape == (1, 10)
    assert answered.outputs["scores"].dtype == np.float32


def test_a_lost_model_file_is_answered_by_the_cloud(device: Device) -> None:
    live = device.state.live
    assert live is not None
    (device.slots.folder(live) / "variants/onnx-fp32/model.onnx").unlink()
    answered = device.predict()
    assert (answered.answered_by, answered.release) == ("cloud", "9.9.9")
    assert "No such file" in answered.reason


def test_an_error_is_answered_by_the_cloud_where_there_is_no_previous(model: Model) -> None:
    answered = model.predict({"image": image()})
    assert (answered.answered_by, answered.reason) == ("cloud", "error: out of order")
    assert model._live is not None
    report = model._live.counts.take(model.name, model._live.slot)
    assert report is not None
    assert report.content.answered_by == {"cloud": 1}  # type: ignore[union-attr]


def test_a_late_model_is_answered_by_the_cloud_within_the_deadline(model: Model) -> None:
    spoil(model, wait_s=3)
    began = time.perf_counter()
    answered = model.predict({"image": image()}, deadline_ms=1500)
    assert answered.answered_by == "cloud"
    assert "no answer within 750 of 1500 ms" in answered.reason
    assert time.perf_counter() - began < 1.5


LIES: dict[str, tuple[Fault, str]] = {
    "wrong shape": (answer(200, response(shape=[1, 3], data=[0.1] * 3)), "expected shape"),
    "another type": (answer(200, response(datatype="INT64", data=[1] * 10)), "is not FP32"),
    "another name": (answer(200, response(name="other")), "gave no output scores"),
    "data beside shape": (answer(200, response(data=[0.1] * 9)), "do not fill the shape"),
    "NaN": (answer(200, response(data=[0.1] * 10).replace(b"0.1,", b"NaN,", 1)), "not JSON"),
    "infinity": (answer(200, response(data=[0.1] * 10).replace(b"0.1,", b"1e999,", 1)), "beyond FP32"),
    "beyond FP32": (answer(200, response(data=[1e300] * 10)), "beyond FP32"),
    "text for numbers": (answer(200, response(data=["1"] * 10)), "is not FP32"),
    "no outputs": (answer(200, b'{"outputs": []}'), "outputs"),
    "garbage": (answer(200, b"\xff\xfe"), "not JSON"),
    "nothing": (answer(200, b""), "not JSON"),
    "deep": (answer(200, b"[" * 100_000), "not JSON"),
    "portal": (captive_portal, "not JSON"),
    "429": (answer(429, b'{"error": "too many"}', Retry_After="9"), "HTTP 429: too many"),
    "503": (answer(503), "HTTP 503"),
    "404": (answer(404, b'{"error": "no model"}'), "HTTP 404: no model"),
    "redirect": (redirect("http://127.0.0.1:1/"), "HTTP 302"),
    "cut off": (drop_after(5), "IncompleteRead"),
}


@pytest.mark.parametrize("name", LIES)
def test_an_improper_answer_is_no_answer(model: Model, cloud: Proxy, name: str) -> None:
    fault, says = LIES[name]
    cloud.misbehave("/infer", fault)
    with pytest.raises(NoAnswerError) as caught:
        model.predict({"image": image()})
    assert says in caught.value.reasons["cloud"]
    cloud.heal()
    assert model.predict({"image": image()}).answered_by == "cloud"


def test_a_dead_cloud_is_no_answer(model: Model, cloud: Proxy) -> None:
    cloud.dead = True
    with pytest.raises(NoAnswerError) as caught:
        model.predict({"image": image()})
    assert "cloud: http://" in caught.value.reasons["cloud"]


@pytest.mark.parametrize("deadline_ms", [200, 400])
def test_a_trickling_cloud_cannot_break_the_deadline(model: Model, cloud: Proxy, deadline_ms: int) -> None:
    cloud.misbehave("/infer", trickle(0.02))
    began = time.perf_counter()
    with pytest.raises(NoAnswerError):
        model.predict({"image": image()}, deadline_ms=deadline_ms)
    assert time.perf_counter() - began < deadline_ms / 1e3 + 0.3


def test_a_silent_cloud_cannot_break_the_deadline(model: Model, cloud: Proxy) -> None:
    cloud.misbehave("/infer", lambda _: time.sleep(1.5))
    began = time.perf_counter()
    with pytest.raises(NoAnswerError):
        model.predict({"image": image()}, deadline_ms=200)
    assert time.perf_counter() - began < 0.6


def open_cloud(url: str, ticks: Ticks, timeout_s: float = 2.0) -> CloudModel:
    config = CloudConfig(url=url, model="", timeout_s=timeout_s, tls=None)
    return CloudModel(config, "digits", Transport(Limits(connect_s=1)), ticks)


def test_the_breaker_opens_after_five_failures_and_tries_again_later(cloud: Proxy) -> None:
    ticks = Ticks()
    model = open_cloud(cloud.url, ticks)
    inputs = {"image": image()}
    cloud.dead = True
    for _ in range(5):
        with pytest.raises(CloudError, match="http://"):
            model.infer(inputs, None)
    cloud.heal()
    with pytest.raises(CloudError, match="not asked for another 30 s after 5 failures"):
        model.infer(inputs, None)
    assert cloud.seen == []
    ticks.advance(29)
    with pytest.raises(CloudError, match="not asked"):
        model.infer(inputs, None)
    ticks.advance(2)
    assert model.infer(inputs, None)[1] == "9.9.9"  # half open: one may try
    assert model.infer(inputs, None)[1] == "9.9.9"  # closed


def test_a_half_open_breaker_lets_one_call_through_and_reopens_on_failure(cloud: Proxy) -> None:
    ticks = Ticks()
    model = open_cloud(cloud.url, ticks)
    cloud.misbehave("/infer", answer(503))
    for _ in range(5):
        with pytest.raises(CloudError, match="503"):
            model.infer({"image": image()}, None)
    ticks.advance(31)
    cloud.forget()
    inside, hold = threading.Event(), threading.Event()

    def wait(_: Any) -> None:
        inside.set()
        hold.wait(1.0)

    cloud.misbehave("/infer", wait)
    first: list[CloudError] = []

    def try_it() -> None:
        try:
            model.infer({"image": image()}, None)
        except CloudError as error:
            first.append(error)

    thread = threading.Thread(target=try_it)
    thread.start()
    assert inside.wait(5)
    with pytest.raises(CloudError, match="not asked"):
        model.infer({"image": image()}, None)
    hold.set()
    thread.join()
    assert "503" in str(first[0])
    with pytest.raises(CloudError, match="not asked for another 30 s after 6"):
        model.infer({"image": image()}, None)
    assert len(cloud.seen) == 1


def test_inputs_that_cannot_be_carried_do_not_open_the_breaker(cloud: Proxy) -> None:
    model = open_cloud(cloud.url, Ticks())
    broken = {"image": np.full((1, 2), np.nan, dtype=np.float32)}
    for _ in range(8):
        with pytest.raises(CloudError, match="NaN or infinity"):
            model.infer(broken, None)
    assert model.infer({"image": image()}, None)[1] == "9.9.9"


def test_no_time_left_is_told_without_a_call(cloud: Proxy) -> None:
    model = open_cloud(cloud.url, Ticks())
    with pytest.raises(CloudError, match="no time was left"):
        model.infer({"image": image()}, 0)
    assert cloud.seen == []


def test_a_signature_is_only_demanded_where_it_is_known(cloud: Proxy) -> None:
    model = open_cloud(cloud.url, Ticks())
    cloud.misbehave("/infer", answer(200, response(name="other")))
    assert list(model.infer({"image": image()}, None)[0]) == ["other"]
    with pytest.raises(CloudError):
        model.infer({"image": image()}, None, SIGNATURE)
