"""Which bucket of a rollout a device falls into.

GrowthBook's hash version 2 (https://docs.growthbook.io/lib/build-your-own, "Hashing"): known to SDKs in
every language, and independent between salts, which CRC32 and its version 1 are not.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["BUCKETS", "bucket"]

BUCKETS = 10_000
"""Buckets are basis points: 500 of them are 5 % of a fleet."""

_FNV_OFFSET = 0x811C9DC5
_FNV_PRIME = 0x01000193


def bucket(salt: str, device_id: str) -> int:
    """The device's bucket, 0…9999, under a rollout's salt: `fnv1a32(str(fnv1a32(salt + id))) mod 10000`."""
    return _fnv1a32(str(_fnv1a32(salt + device_id))) % BUCKETS


def _fnv1a32(text: str) -> int:
    # Over UTF-16 code units, as GrowthBook's SDKs in every language do; for ASCII these are the bytes.
    value = _FNV_OFFSET
    for unit in text.encode() if text.isascii() else _utf16_units(text):
        value = ((value ^ unit) * _FNV_PRIME) & 0xFFFFFFFF
    return value


def _utf16_units(text: str) -> Iterator[int]:
    data = text.encode("utf-16-le", "surrogatepass")
    return (low | high << 8 for low, high in zip(data[::2], data[1::2], strict=True))
