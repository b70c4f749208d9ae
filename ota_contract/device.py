"""What a device says of itself, the ground that cohort rules and compatibility stand on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ota_contract.documents import Reader
from ota_contract.names import check_device_id

__all__ = [
    "Attributes",
    "attributes_from",
    "attributes_to_json",
    "condition_attributes",
]

_MAX_EXTRA = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """A device's own statement, and the tags a fleet manager gave it."""

    device_id: str
    hardware: str = ""
    os: str = ""
    arch: str = ""
    ram_bytes: int = 0
    runtimes: Mapping[str, str] = field(default_factory=dict)
    """Installed runtimes by name (`onnx`, `tflite`, `coreml`) with their versions."""
    region: str = ""
    extra: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Attributes of the fleet's own, usable in cohort rules by their names."""
    tags: tuple[str, ...] = ()


def attributes_from(reader: Reader) -> Attributes:
    """Parse a device's statement; `tags` in it are ignored, since only a fleet manager gives them.

    Raises:
        FormatError: A field is missing, of the wrong type or out of bounds.
        InvalidNameError: The id is not well formed.
    """
    return Attributes(
        device_id=check_device_id(reader.text("id", max_length=128)),
        hardware=reader.text("hardware", max_length=64, default=""),
        os=reader.text("os", max_length=32, default=""),
        arch=reader.text("arch", max_length=32, default=""),
        ram_bytes=reader.integer("ram_bytes", default=0),
        runtimes={
            name: value.text("value", max_length=32)
            for name, value in reader.entries("runtimes", max_items=16).items()
        },
        region=reader.text("region", max_length=64, default=""),
        extra={name: _scalar(value) for name, value in reader.entries("extra", max_items=_MAX_EXTRA).items()},
    )


def attributes_to_json(attributes: Attributes) -> dict[str, Any]:
    """The inverse of `attributes_from`, without tags."""
    return {
        "id": attributes.device_id,
        "hardware": attributes.hardware,
        "os": attributes.os,
        "arch": attributes.arch,
        "ram_bytes": attributes.ram_bytes,
        "runtimes": dict(attributes.runtimes),
        "region": attributes.region,
        "extra": dict(attributes.extra),
    }


def condition_attributes(attributes: Attributes) -> dict[str, Any]:
    """The object a cohort rule is evaluated on; Ferry's own names win over `extra`."""
    return {
        **attributes.extra,
        "id": attributes.device_id,
        "hardware": attributes.hardware,
        "os": attributes.os,
        "arch": attributes.arch,
        "ram_bytes": attributes.ram_bytes,
        "runtimes": sorted(attributes.runtimes),
        "runtime_versions": dict(attributes.runtimes),
        "region": attributes.region,
        "tags": list(attributes.tags),
    }


def _scalar(reader: Reader) -> str | int | float | bool:
    value = reader.raw("value")
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return reader.text("value")
    if isinstance(value, int):
        return reader.integer("value", low=-(2**53), high=2**53)
    return reader.number("value")
