"""The order in which a device prefers the variants it can run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ota_contract.manifest import Variant, VerificationStatus

__all__ = ["ranked"]


def ranked(variants: Iterable[Variant]) -> tuple[Variant, ...]:
    """The variants with their ranks, best first.

    Smaller first, failed ones last. Every variant that is not failed has kept to the recipe's goal, so
    what is left to prefer is what a device pays: bytes to fetch, to store and to read on every
    inference. Measured latency is left out on purpose: it is this host's, and noise would reorder a
    fleet from one conversion to the next.
    """
    ordered = sorted(variants, key=_key)
    return tuple(replace(variant, rank=rank) for rank, variant in enumerate(ordered))


def _key(variant: Variant) -> tuple[bool, int, str]:
    failed = variant.verification.status is VerificationStatus.FAILED
    return failed, variant.metrics.size_bytes, variant.id
