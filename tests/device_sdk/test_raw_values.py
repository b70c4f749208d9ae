"""A release of photographs, text and sound on a device: fetched whole, tested on both levels, asked raw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_sdk.commands import predict as command
from device_sdk.errors import NoAnswerError, SelfTestError
from device_sdk.ferry import Ferry
from device_sdk.self_test import SelfTestLimits, self_test
from edge_runtime.errors import InferenceError, InputError
from ota_contract.report import AnsweredBy
from tests.support.devices import Device, complete, make_device
from tests.support.fleet import TestServer, start_server
from tests.support.raw_package import VOCABULARY, VOCABULARY_PATH, photo, raw_values, write_raw_package

NAME = "vision/digits"


@pytest.fixture(scope="module")
def raw_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    folder = tmp_path_factory.mktemp("raw")
    server = start_server(folder / "server", publishers=("vision",))
    write_raw_package(folder / "good")
    server.publish_folder(folder / "good")
    complete(server, "1.0.0")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def installed(raw_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Device:
    """Updated by the real agent, with the real self-test in its child."""
    device = make_device(raw_server, tmp_path_factory.mktemp("device") / "device")
    device.poll()
    assert device.live == "1.0.0"
    return device


@pytest.fixture
def device(installed: Device, tmp_path: Path) -> Device:
    return installed.copy(tmp_path / "twin")


def vocabulary_of(device: Device) -> Path:
    (path,) = device.store.rglob(VOCABULARY_PATH)
    return path


def test_the_vocabulary_came_with_the_release(device: Device) -> None:
    assert vocabulary_of(device).read_bytes() == VOCABULARY


def test_it_answers_files_text_and_samples(device: Device) -> None:
    with Ferry(device.config, start_agent=False) as ferry:
        model = ferry.model(NAME)
        assert {tensor.name: tensor.datatype.value for tensor in model.inputs} == {
            "photo": "BYTES",
            "text": "BYTES",
            "sound": "INT16",
        }
        one = model.predict(raw_values())
        assert (one.answered_by, one.outputs["scores"].shape) == (AnsweredBy.LIVE, (1, 4))
        # [CLS] hello world ##s ! [SEP]: six tokens of eight, whose ids sum up to 31.
        np.testing.assert_allclose(one.outputs["scores"][0, 1:3], [31 / 8, 6 / 8])
        samples = [raw_values(seed) for seed in (0, 1)]
        two: dict[str, Any] = {name: [sample[name] for sample in samples] for name in ("photo", "text")}
        two["sound"] = np.concatenate([sample["sound"] for sample in samples])
        both = model.predict(two).outputs["scores"]
        np.testing.assert_allclose(both[0], one.outputs["scores"][0], atol=1e-6)


def test_a_wrong_raw_value_is_the_callers_mistake(device: Device) -> None:
    with Ferry(device.config, start_agent=False) as ferry:
        changes: list[tuple[dict[str, Any], str]] = [
            ({"photo": b"no image"}, "raw input photo: no PNG or JPEG"),
            ({"text": b"\xff"}, "raw input text: a text is not UTF-8"),
            ({"sound": np.zeros((1, 9), np.int16)}, "raw input sound: expected INT16"),
            ({"more": np.zeros(1)}, "expected inputs"),
        ]
        for change, why in changes:
            with pytest.raises(InputError, match=why):
                ferry.model(NAME).predict({**raw_values(), **change})


def test_a_vocabulary_that_went_missing_is_no_answer_and_no_crash(device: Device) -> None:
    vocabulary_of(device).unlink()
    with Ferry(device.config, start_agent=False) as ferry, pytest.raises(NoAnswerError, match="vocabulary"):
        ferry.model(NAME).predict(raw_values())


def check(folder: Path) -> int:
    return self_test(folder, "onnx-fp32", threads=1, limits=SelfTestLimits())


def test_preprocessing_that_differs_fails_the_self_test(tmp_path: Path) -> None:
    """Golden tensors of another colour order: the first of the two levels sees it, in the child."""
    write_raw_package(tmp_path / "good")
    assert check(tmp_path / "good") == 3
    write_raw_package(tmp_path / "flipped", flipped=True)
    with pytest.raises(SelfTestError, match="golden vector 0: preprocessing of photo differs"):
        check(tmp_path / "flipped")


def test_another_vocabulary_fails_the_self_test(tmp_path: Path) -> None:
    """As good a vocabulary as the other, but for two entries that have changed places."""
    write_raw_package(tmp_path / "swapped")
    swapped = VOCABULARY.replace(b"hello\nworld", b"world\nhello")
    (tmp_path / "swapped" / VOCABULARY_PATH).write_bytes(swapped)
    with pytest.raises(SelfTestError, match="preprocessing of ids differs"):
        check(tmp_path / "swapped")


def test_a_device_whose_cloud_serves_a_bare_model_sends_tensors(device: Device) -> None:
    """What goes out is what the endpoint says it takes: raw values, or the release's own inputs."""
    asked: list[dict[str, object]] = []

    class Cloud:
        takes_raw = False

        def infer(self, inputs: dict[str, object], *_: object) -> tuple[dict[str, object], str]:
            asked.append(inputs)
            return {"scores": np.zeros((1, 4), np.float32)}, "9.9.9"

    with Ferry(device.config, start_agent=False) as ferry:
        model = ferry.model(NAME)
        model._cloud = Cloud()  # type: ignore[assignment]
        assert model._live is not None
        model._live.model = Broken()
        assert model.predict(raw_values()).answered_by is AnsweredBy.CLOUD
        Cloud.takes_raw = True
        assert model.predict(raw_values()).answered_by is AnsweredBy.CLOUD
    assert [sorted(inputs) for inputs in asked] == [
        ["ids", "mask", "photo", "sound"],
        ["photo", "sound", "text"],
    ]


class Broken:
    """A runtime out of order."""

    accelerator = "cpu"

    def run(self, _: object) -> dict[str, np.ndarray]:
        raise InferenceError("out of order")

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("name", ["photo.jpg", "photo.JPEG", "a.png", "a.txt"])
def test_the_command_takes_files_as_they_are(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(photo())
    assert command._read(tmp_path / name, "photo") == {"photo": photo()}
