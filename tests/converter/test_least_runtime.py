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


@pytest.mark.parametrize(
    ("kinds", "bits", "least"),
    [
        ({"Conv": 1}, [], "1.6"),
        ({"com.microsoft.DynamicQuantizeLSTM": 1}, [], "1.8"),
        ({"com.microsoft.MatMulNBits": 2}, [4], "1.17"),
        ({"com.microsoft.MatMulNBits": 3}, [4, 8], "1.22"),
    ],
)
def test_onnx_needs_a_runtime_with_the_operators_no_opset_tells_of(
    kinds: dict[str, int], bits: list[int], least: str
) -> None:
    facts = {"opset": 13, "ir": 7, "kinds": kinds, "bits": bits}
    assert requirements(Runtime.ONNX, facts, size_bytes=1, resident_bytes=1).runtime_version == least


def test_tflite_needs_a_runtime_that_reads_scales_of_blocks() -> None:
    facts = {"min_runtime_version": "1.14.0", "blocks": True}
    assert requirements(Runtime.TFLITE, facts, size_bytes=1, resident_bytes=1).runtime_version == "2.0"


@pytest.mark.parametrize(("target", "least"), [("iOS16", "13"), ("iOS17", "14"), ("iOS18", "15")])
def test_coreml_needs_the_macos_of_its_target(target: str, least: str) -> None:
    facts = {"minimum_deployment_target": target}
    found = requirements(Runtime.COREML, facts, size_bytes=MEBIBYTE, resident_bytes=None)
    assert (found.os, found.runtime_version) == (("darwin",), least)
    assert found.ram_bytes == 80 * MEBIBYTE


def test_measured_memory_is_rounded_up() -> None:
    facts = {"opset": 15, "ir": 8}
    found = requirements(Runtime.ONNX, facts, size_bytes=1, resident_bytes=48 * MEBIBYTE + 1)
    assert found.ram_bytes == 64 * MEBIBYTE
