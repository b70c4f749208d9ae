"""What a variant requires of a device, from what its file states."""

from __future__ import annotations

import pytest

from converter.least_runtime import requirements
from ota_contract.manifest import Runtime

MEBIBYTE = 2**20


@pytest.mark.parametrize(
    ("opset", "ir", "least"),
    [(13, 7, "1.6"), (15, 8, "1.10"), (13, 8, "1.10"), (18, 8, "1.14"), (21, 10, "1.18"), (99, 99, "1.23")],
)
def test_onnx_needs_a_runtime_that_knows_opset_and_ir(opset: int, ir: int, least: str) -> None:
    found = requirements(Runtime.ONNX, {"opset": opset, "ir": ir}, size_bytes=1, resident_bytes=1)
    assert found.runtime_version == least


@pytest.mark.parametrize(
    ("stated", "least"),
    [("1.14.0", "1.0"), ("2.11.0", "1.0"), ("2.18.0", "1.1"), ("3.0.0", "2.1"), ("", "1.0")],
)
def test_tflite_needs_a_runtime_with_its_kernels(stated: str, least: str) -> None:
    facts = {"min_runtime_version": stated}
    found = requirements(Runtime.TFLITE, facts, size_bytes=1, resident_bytes=1)
    assert found.runtime_version == least


def test_coreml_needs_macos() -> None:
    found = requirements(Runtime.COREML, {}, size_bytes=MEBIBYTE, resident_bytes=None)
    assert found.os == ("darwin",)
    assert found.ram_bytes == 80 * MEBIBYTE


def test_measured_memory_is_rounded_up() -> None:
    facts = {"opset": 15, "ir": 8}
    found = requirements(Runtime.ONNX, facts, size_bytes=1, resident_bytes=48 * MEBIBYTE + 1)
    assert found.ram_bytes == 64 * MEBIBYTE
