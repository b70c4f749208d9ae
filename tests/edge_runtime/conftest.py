from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_runtime.loading import load
from edge_runtime.port import LoadedModel
from ota_contract.manifest import Release, Runtime, Variant
from tests.edge_runtime.tiny_models import onnx_model, tflite_model, write_package


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package folder with one variant per runtime."""

    folder: Path
    release: Release

    def variant(self, runtime: Runtime) -> Variant:
        return self.release.variant(f"{runtime.value}-fp32")

    def load(self, runtime: Runtime, threads: int = 1) -> LoadedModel:
        return load(self.release, self.variant(runtime), self.folder, threads=threads)


@pytest.fixture(scope="session")
def tflite_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tflite_model(tmp_path_factory.getbasetemp().parent)


@pytest.fixture
def package(tmp_path: Path, tflite_bytes: bytes) -> Package:
    folder = tmp_path / "package"
    release = write_package(folder, {Runtime.ONNX: onnx_model(), Runtime.TFLITE: tflite_bytes})
    return Package(folder=folder, release=release)


@pytest.fixture(params=[Runtime.ONNX, Runtime.TFLITE], ids=lambda runtime: runtime.value)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    chosen: Runtime = request.param
    return chosen


@pytest.fixture
def model(package: Package, runtime: Runtime) -> LoadedModel:
    return package.load(runtime)
