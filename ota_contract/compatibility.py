"""Whether a device can run a variant, why not, and which one it takes.

The device decides with it, and the server's preview and the simulator must come to the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ota_contract.device import Attributes
from ota_contract.manifest import Release, Variant, VerificationStatus

__all__ = ["Choice", "choose_variant", "obstacles"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The variant a device takes, or None, and why it does not take each of the others."""

    variant: Variant | None
    rejected: Mapping[str, tuple[str, ...]]

    def explain(self) -> str:
        """One sentence."""
        if self.variant is not None:
            return f"variant {self.variant.id} fits"
        reasons = "; ".join(f"{key}: {', '.join(why)}" for key, why in self.rejected.items())
        return f"no variant fits this device ({reasons})"


def obstacles(variant: Variant, device: Attributes) -> tuple[str, ...]:
    """What keeps the device from running the variant, in words; empty if nothing does."""
    requires = variant.requires
    runtime = variant.runtime.value
    installed = device.runtimes.get(runtime)
    found: list[str] = []
    if installed is None:
        found.append(f"has no runtime {runtime}")
    elif _numbers(installed) < _numbers(requires.runtime_version):
        found.append(f"needs {runtime} {requires.runtime_version} or newer, has {installed}")
    if requires.os and device.os not in requires.os:
        found.append(f"needs {' or '.join(requires.os)}, is {device.os or 'unknown'}")
    if requires.arch and device.arch not in requires.arch:
        found.append(f"needs {' or '.join(requires.arch)}, is {device.arch or 'unknown'}")
    if requires.accelerator and device.extra.get("accelerator") != requires.accelerator:
        found.append(f"needs the accelerator {requires.accelerator}")
    if device.ram_bytes < requires.ram_bytes:
        found.append(f"needs {requires.ram_bytes} bytes of RAM, has {device.ram_bytes}")
    if variant.verification.status is VerificationStatus.FAILED:
        found.append("failed its verification at conversion")
    return tuple(found)


def choose_variant(release: Release, device: Attributes) -> Choice:
    """The device's variant: the one of least rank without an obstacle."""
    rejected: dict[str, tuple[str, ...]] = {}
    chosen: Variant | None = None
    for variant in sorted(release.variants, key=lambda variant: (variant.rank, variant.id)):
        reasons = obstacles(variant, device)
        if reasons:
            rejected[variant.id] = reasons
        elif chosen is None:
            chosen = variant
        else:
            rejected[variant.id] = (f"ranked after {chosen.id}",)
    return Choice(variant=chosen, rejected=rejected)


def _numbers(version: str) -> tuple[int, ...]:
    """Leading dotted numbers of a version, without zeros at the end: `2.3.0rc1` reads as 2.3."""
    numbers: list[int] = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    while numbers and numbers[-1] == 0:  # 2.3 is as new as 2.3.0
        numbers.pop()
    return tuple(numbers)
