from __future__ import annotations

import pytest

from edge_runtime.errors import PackageError
from edge_runtime.package import open_package, read_manifest
from ota_contract.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES
from tests.edge_runtime.conftest import Package


def test_a_whole_package_is_opened(package: Package) -> None:
    release, data = open_package(package.folder)
    assert release == package.release
    assert data == (package.folder / MANIFEST_NAME).read_bytes()


@pytest.mark.parametrize("path", ["golden.json", "onnx/model.bin", "tflite/model.bin"])
def test_a_missing_file_is_named(package: Package, path: str) -> None:
    (package.folder / path).unlink()
    with pytest.raises(PackageError, match=f"{path}: No such file"):
        open_package(package.folder)


@pytest.mark.parametrize("path", ["golden.json", "onnx/model.bin"])
def test_one_other_byte_is_found(package: Package, path: str) -> None:
    data = bytearray((package.folder / path).read_bytes())
    data[-1] ^= 1
    (package.folder / path).write_bytes(data)
    with pytest.raises(PackageError, match="is not the file the manifest names"):
        open_package(package.folder)


def test_what_is_no_package_says_what_makes_one(package: Package) -> None:
    for folder in (package.folder / "absent", package.folder / "golden.json", package.folder / "onnx"):
        with pytest.raises(PackageError, match="`ferry convert` writes one"):
            read_manifest(folder)


@pytest.mark.parametrize("data", [b"", b"{}", b"x" * (MAX_MANIFEST_BYTES + 2)])
def test_a_manifest_that_is_none_is_refused(package: Package, data: bytes) -> None:
    (package.folder / MANIFEST_NAME).write_bytes(data)
    with pytest.raises(PackageError, match=r"release\.json"):
        read_manifest(package.folder)
