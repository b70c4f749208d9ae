"""The least runtime version a variant needs, from the versions its file states.

Each table goes by the runtime's release notes. What a table does not know is taken for the newest
entry: a device too old is told so, instead of failing at load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ota_contract.manifest import Requirements, Runtime

__all__ = ["requirements"]

_MEBIBYTE = 2**20
_STEP_BYTES = 16 * _MEBIBYTE
"""Memory is rounded up to this, so that a page more or less does not change a manifest."""

# First ONNX Runtime that runs an opset (and reads the IR version of that ONNX release).
_ONNX_OPSETS = ((13, "1.6"), (14, "1.9"), (15, "1.10"), (16, "1.11"), (17, "1.12"), (18, "1.14"),
                (19, "1.15"), (20, "1.17"), (21, "1.18"), (22, "1.21"), (23, "1.23"))  # fmt: skip
_ONNX_OPERATORS = {"com.microsoft.DynamicQuantizeLSTM": "1.8"}
_PACKED = "com.microsoft.MatMulNBits"
_ONNX_BITS = {4: "1.17", 8: "1.22"}
"""First ONNX Runtime that computes MatMulNBits with weights of so many bits on CPUs."""
_ONNX_IRS = ((7, "1.6"), (8, "1.10"), (9, "1.15"), (10, "1.18"), (11, "1.22"), (12, "1.23"))

# First ai-edge-litert with the kernels of a TensorFlow release; 1.0 took over from TensorFlow 2.17.
_TFLITE = (((2, 17), "1.0"), ((2, 18), "1.1"), ((2, 19), "1.2"), ((2, 20), "2.0"), ((2, 21), "2.1"))

_TFLITE_BLOCKS = "2.0"
"""First with scales for blocks of weights."""

# The macOS of the same year as an iOS: what a device's runtime `coreml` is the version of.
_COREML = {"iOS15": "12", "iOS16": "13", "iOS17": "14", "iOS18": "15"}

_COREML_BASE_BYTES = 64 * _MEBIBYTE


def requirements(
    runtime: Runtime, facts: Mapping[str, Any], *, size_bytes: int, resident_bytes: int | None
) -> Requirements:
    """What a device needs to run a variant.

    Args:
        runtime: Of the variant.
        facts: What the pass that made it said of its file.
        size_bytes: Of all its files.
        resident_bytes: Measured memory of a process running it, or None where it cannot run here.
    """
    match runtime:
        case Runtime.ONNX:
            version = _onnx(facts)
        case Runtime.TFLITE:
            stated = _numbers(facts["min_runtime_version"]) or (0,)
            blocks = _TFLITE_BLOCKS if facts.get("blocks") else ""
            version = max(_first(_TFLITE, (*stated, 0)[:2]), blocks, key=_numbers)
        case Runtime.COREML:  # the operating system brings it, so its version is the system's
            version = _COREML[facts["minimum_deployment_target"]]
    # Not measured: the weights once as they are and once as the compiler lays them out.
    memory = _COREML_BASE_BYTES + 2 * size_bytes if resident_bytes is None else resident_bytes
    return Requirements(
        runtime_version=version,
        os=("darwin",) if runtime is Runtime.COREML else (),
        ram_bytes=-(-memory // _STEP_BYTES) * _STEP_BYTES,
    )


def _onnx(facts: Mapping[str, Any]) -> str:
    """By opset and IR, and by operators of ONNX Runtime's own, which no opset tells of."""
    needed = [_first(_ONNX_OPSETS, facts["opset"]), _first(_ONNX_IRS, facts["ir"])]
    kinds = facts.get("kinds", {})
    needed += [version for kind, version in _ONNX_OPERATORS.items() if kind in kinds]
    if _PACKED in kinds:
        needed += [_ONNX_BITS[bits] for bits in facts["bits"]]
    return max(needed, key=_numbers)


def _first(table: tuple[tuple[Any, str], ...], wanted: Any) -> str:  # noqa: ANN401 - an int or a pair
    return next((version for supported, version in table if wanted <= supported), table[-1][1])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
