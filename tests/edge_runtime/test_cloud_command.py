from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import urllib3

from ota_contract.manifest import Runtime
from tests.edge_runtime.conftest import Package


def ferry(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ferry_cli", *arguments]


def refused(*arguments: str) -> str:
    done = subprocess.run(
        ferry("cloud", *arguments), capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        ferry("cloud", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.communicate()


def test_a_package_is_served_until_a_signal_ends_it(package: Package) -> None:
    """The announced URL answers at once: the model is loaded and the port bound before it is printed."""
    with serving(str(package.folder), "--port", "0", "--json") as (process, line):
        announced = json.loads(line)
        assert (announced["model"], announced["version"]) == ("tiny", "1.0.0")
        url = f"{announced['url']}/v2/models/tiny"
        tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2], "data": [1, 2, 3, 4]}
        with urllib3.PoolManager(timeout=30, retries=False) as http:
            assert http.request("GET", f"{url}/ready").status == 200
            answer = http.request("POST", f"{url}/infer", json={"inputs": [tensor]})
        assert answer.json()["outputs"][0]["data"] == [40.0, 50.0]
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGTERM)
        assert stderr == ""


def test_people_are_told_in_words_what_is_served(package: Package) -> None:
    with serving(str(package.folder), "--port", "0") as (_, line):
        assert line.startswith("serving vision/tiny 1.0.0 (onnx-fp32) at http://127.0.0.1:")


def test_what_cannot_be_served_is_refused_in_one_line(package: Package) -> None:
    folder = str(package.folder)
    assert "has no such ONNX variant" in refused(folder, "--variant", "tflite-fp32")
    assert "65536 is no port" in refused(folder, "--port", "65536")
    assert "is not a package" in refused(f"{folder}/absent")
    (package.folder / package.variant(Runtime.ONNX).model_file.path).write_bytes(b"tampered with")
    assert "is not the file the manifest names" in refused(folder)


def test_a_taken_port_is_named(package: Package) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in refused(str(package.folder), "--port", str(port))


def test_usage_errors_are_2() -> None:
    done = subprocess.run(ferry("cloud"), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "PACKAGE_DIR" in done.stderr


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_explains_itself(option: str) -> None:
    done = subprocess.run(ferry("cloud", option), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "Open Inference Protocol" in done.stdout
