"""Which devices the demonstration has, and the folder each of them lives in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Device", "Site", "fleet_of", "write_device"]

_REGIONS = ("eu", "us", "ap")
_HARDWARE = ("camera", "gateway", "kiosk", "camera")
_RUNTIMES = (("tflite",), ("onnx",), ("onnx", "tflite"), ("tflite",))
_RAM_BYTES = (512 * 2**20, 2 * 2**30, 8 * 2**30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device of the fleet."""

    id: str
    region: str
    hardware: str
    runtimes: tuple[str, ...]
    ram_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What every device of the demonstration is told."""

    server: str
    cloud: str
    trust_root: Path
    enrolment_token: Path
    model: str


def fleet_of(size: int) -> Iterator[Device]:
    """Devices of mixed regions, hardware, runtimes and memory."""
    for number in range(1, size + 1):
        yield Device(
            id=f"device-{number:03}",
            region=_REGIONS[number % len(_REGIONS)],
            hardware=_HARDWARE[number % len(_HARDWARE)],
            runtimes=_RUNTIMES[number % len(_RUNTIMES)],
            ram_bytes=_RAM_BYTES[number % len(_RAM_BYTES)],
        )


def write_device(device: Device, site: Site, folder: Path) -> Path:
    """Write a device's `device.toml`; returns it."""
    folder.mkdir(parents=True)
    path = folder / "device.toml"
    runtimes = ", ".join(f'"{runtime}"' for runtime in device.runtimes)
    path.write_text(
        f"""\
server = "{site.server}"
store = "store"
trust_root = "{site.trust_root}"
models = ["{site.model}"]

[device]
id = "{device.id}"
hardware = "{device.hardware}"
region = "{device.region}"
ram_bytes = {device.ram_bytes}
runtimes = [{runtimes}]

[enrolment]
token_file = "{site.enrolment_token}"

[cloud]
url = "{site.cloud}"

[agent]
poll_interval_s = 1
report_interval_s = 1
"""
    )
    return path
