"""What this machine is, read without importing any runtime."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata

__all__ = ["KNOWN_RUNTIMES", "installed_runtimes", "machine_arch", "machine_os", "machine_ram_bytes"]

_DISTRIBUTIONS = {"onnx": "onnxruntime", "tflite": "ai-edge-litert", "coreml": "coremltools"}
KNOWN_RUNTIMES = frozenset(_DISTRIBUTIONS)
_RUNS_ON = {"coreml": "darwin"}
_PART_OF_SYSTEM = frozenset({"coreml"})


def installed_runtimes(allowed: Iterable[str] | None = None) -> dict[str, str]:
    """Runtimes by name with the version installed here; `allowed` narrows them.

    Core ML is part of macOS, and its version is the system's; coremltools only opens the door to it.
    """
    found: dict[str, str] = {}
    for name, distribution in _DISTRIBUTIONS.items():
        if allowed is not None and name not in allowed:
            continue
        if _RUNS_ON.get(name, machine_os()) != machine_os():
            continue
        try:
            version = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
        found[name] = platform.mac_ver()[0] if name in _PART_OF_SYSTEM else version
    return found


def machine_os() -> str:
    """`linux`, `darwin` or `windows`."""
    return platform.system().lower()


def machine_arch() -> str:
    """`x86_64`, `aarch64`, … with `arm64` and `amd64` under their other names."""
    machine = platform.machine().lower()
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(machine, machine)


def machine_ram_bytes() -> int:
    """Physical memory, or 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0
