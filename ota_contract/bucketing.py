"""Which bucket of a rollout a device falls into.

GrowthBook's hash version 2 (https://docs.growthbook.io/lib/build-your-own, "Hashing"): known to SDKs in
every language, and independent between salts, which CRC32 and its version 1 are not.
"""

from __future__ import annotations

__all__ = ["BUCKETS", "bucket"]

BUCKETS = 10_000
"""Buckets are basis points: 500 of them are 5 % of a fleet."""

_FNV_OFFSET = 0x811C9DC5
_FNV_PRIME = 0x01000193


def bucket(salt: str, device_id: str) -> int:
    """The device's bucket, 0…9999, under a rollout's salt: `fnv1a32(str(fnv1a32(salt + id))) mod 10000`."""
    return _fnv1a32(str(_fnv1a32(salt + device_id))) % BUCKETS


def _fnv1a32(text: str) -> int:
    value = _FNV_OFFSET
    for byte in text.encode():
        value = ((value ^ byte) * _FNV_PRIME) & 0xFFFFFFFF
    return value
