from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from edge_runtime import cloud_endpoint
from edge_runtime.arrays import from_value, to_value
from edge_runtime.cloud_endpoint import create_endpoint
from edge_runtime.loading import load
from edge_runtime.preprocessing import Preprocessing
from ota_contract import __version__
from ota_contract.inference_protocol import CONTENT_TYPE, InferRequest, dump_request, parse_response
from ota_contract.manifest import Runtime
from tests.edge_runtime.conftest import Package
from tests.edge_runtime.tiny_models import expected, images, onnx_model, write_package
from tests.support.raw_package import raw_values, write_raw_package

INFER = "/v2/models/tiny/infer"


@pytest.fixture
def client(package: Package) -> Iterator[TestClient]:
    preprocessing = Preprocessing.of_release(package.release, package.folder)
    with TestClient(create_endpoint(package.release, package.load(Runtime.ONNX), preprocessing)) as client:
        yield client


def body(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2], "data": [1, 2, 3, 4]} | changes
    return {"id": "42", "inputs": [tensor]}


def test_the_server_and_the_model_describe_themselves(client: TestClient) -> None:
    assert client.get("/v2").json() == {"name": "ferry-cloud", "version": __version__, "extensions": []}
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").status_code == 200
    assert client.get("/v2/models/tiny/ready").json() == {"name": "tiny", "ready": True}
    for path in ("/v2/models/tiny", "/v2/models/tiny/versions/1.0.0"):
        assert client.get(path).json() == {
            "name": "tiny",
            "versions": ["1.0.0"],
            "platform": "ferry",
            "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, 2, 2]}],
            "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 2]}],
        }


@pytest.mark.parametrize("path", [INFER, "/v2/models/tiny/versions/1.0.0/infer"])
def test_an_inference_gives_the_models_answer(client: TestClient, path: str) -> None:
    image = images(3)
    request = InferRequest(inputs=(to_value("image", image[..., 0]),), id="7")
    answer = client.post(path, content=dump_request(request))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == CONTENT_TYPE
    response = parse_response(answer.content)
    assert (response.model_name, response.model_version, response.id) == ("tiny", "1.0.0", "7")
    np.testing.assert_allclose(from_value(response.outputs[0]), expected(image))


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/other",
        "/v2/models/other/ready",
        "/v2/models/tiny/versions/2.0.0",
        "/v2/models/tiny/versions/2.0.0/ready",
    ],
)
def test_another_model_or_version_is_not_found(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "here" in answer.json()["error"]


def test_another_model_infers_nothing(client: TestClient) -> None:
    assert client.post("/v2/models/other/infer", json=body()).status_code == 404
    assert client.get("/nonsense").status_code == 404
    assert client.get(INFER).status_code == 405


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"data": [1, 2, 3]}, "do not fill the shape"),
        ({"data": [1, 2, 3, 256]}, "tensor image"),
        ({"data": [1, 2, 3, 4.5]}, "not UINT8"),
        ({"datatype": "FP32"}, "raw input image: expected UINT8"),
        ({"shape": [4, 1, 1]}, "raw input image: expected UINT8 of shape"),
        ({"name": "picture"}, "raw input image is missing"),
        ({"datatype": "COMPLEX"}, "is none of"),
        ({"datatype": "BYTES"}, "an element is not BYTES"),
    ],
)
def test_the_callers_mistake_is_400_and_told(client: TestClient, change: dict[str, Any], why: str) -> None:
    answer = client.post(INFER, json=body(**change))
    assert answer.status_code == 400
    assert why in answer.json()["error"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"inputs": [{"data": [NaN]}]}', b"[" * 100_000])
def test_a_malformed_body_is_400(client: TestClient, content: bytes) -> None:
    assert client.post(INFER, content=content).status_code == 400
    assert client.post(INFER, json=body()).status_code == 200


def test_a_body_beyond_the_bound_is_refused_before_it_is_parsed(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud_endpoint, "MAX_MESSAGE_BYTES", 1000)
    answer = client.post(INFER, content=iter([b"x" * 600, b"x" * 600]))
    assert answer.status_code == 400
    assert answer.json()["error"] == "the request is longer than 1000 bytes"
    assert client.post(INFER, json=body()).status_code == 200


def test_an_answer_of_nan_is_the_models_failure_and_500(tmp_path: Path) -> None:
    release = write_package(tmp_path, {Runtime.ONNX: onnx_model(logarithm=True)})
    model = load(release, release.variants[0], tmp_path)
    with TestClient(create_endpoint(release, model, Preprocessing.of_release(release, tmp_path))) as client:
        answer = client.post(INFER, json=body(data=[0, 0, 0, 0]))
        assert answer.status_code == 500
        assert answer.json()["error"] == "output scores holds NaN or infinity"
        assert client.post(INFER, json=body()).status_code == 200


def test_files_text_and_sound_are_prepared_as_on_a_device(tmp_path: Path) -> None:
    """The photograph travels as base64, marked; the text as text; the answer is the device's own."""
    release = write_raw_package(tmp_path / "raw")
    model = load(release, release.variants[0], tmp_path / "raw")
    preprocessing = Preprocessing.of_release(release, tmp_path / "raw")
    raw = raw_values()
    content = dump_request(InferRequest(inputs=tuple(to_value(name, value) for name, value in raw.items())))
    sent = {item["name"]: item for item in json.loads(content)["inputs"]}
    assert sent["text"]["data"] == ["Hello worlds!"]
    assert sent["photo"]["parameters"] == {"content_type": "base64"}
    with TestClient(create_endpoint(release, model, preprocessing)) as client:
        described = client.get("/v2/models/digits").json()["inputs"]
        assert [(item["name"], item["datatype"]) for item in described] == [
            ("photo", "BYTES"),
            ("text", "BYTES"),
            ("sound", "INT16"),
        ]
        answer = parse_response(client.post("/v2/models/digits/infer", content=content).content)
        wanted = model.run(preprocessing.prepare(raw))["scores"]
        np.testing.assert_array_equal(from_value(answer.outputs[0]), wanted)
        broken = json.loads(content)
        broken["inputs"][0]["data"] = ["AAAA"]
        refused = client.post("/v2/models/digits/infer", json=broken)
        assert (refused.status_code, "no PNG or JPEG" in refused.json()["error"]) == (400, True)


def test_answers_are_plain_json(client: TestClient) -> None:
    answer = json.loads(client.post(INFER, json=body()).content)
    assert answer["id"] == "42"
    assert answer["outputs"] == [
        {"name": "scores", "datatype": "FP32", "shape": [1, 2], "data": [40.0, 50.0]}
    ]
