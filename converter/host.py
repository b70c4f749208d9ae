"""This machine: its CPU, since integer kernels differ by what it offers, and the runtimes it can have."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from ota_contract.manifest import Runtime

__all__ = ["Host", "runs_here", "this_host"]

_CPU_INFO = Path("/proc/cpuinfo")
_EXTENSIONS = (
    "sse4_2", "avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8",
    "asimd", "asimddp", "i8mm", "sve",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A CPU."""

    cpu: str
    isa: str
    """Architecture, then the extensions that decide how integer and float kernels compute."""


def runs_here(runtime: Runtime) -> bool:
    """Whether this machine can run variants of a runtime as a device would, and so measure them."""
    return runtime is not Runtime.COREML or platform.system() == "Darwin"


def this_host() -> Host:
    """This machine's CPU, as its system names it."""
    fields: dict[str, str] = {}
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    machine = platform.machine()
    return Host(
        cpu=fields.get("model name") or platform.processor() or machine,
        isa=" ".join([machine, *(name for name in _EXTENSIONS if name in flags)]),
    )
