from __future__ import annotations

from collections import Counter

from growthbook.core import gbhash
from hypothesis import given
from hypothesis import strategies as st

from ota_contract.bucketing import BUCKETS, bucket


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_bucket_is_growthbooks_second_hash(salt: str, device_id: str) -> None:
    """For any text, beyond the basic plane and beyond ASCII too."""
    expected = gbhash(salt, device_id, 2)
    assert expected is not None
    assert bucket(salt, device_id) == round(expected * BUCKETS)


def test_buckets_are_filled_evenly() -> None:
    counts = Counter(bucket("salt", f"device-{index}") // 1000 for index in range(10_000))
    # Ten cells of 1,000 expected, standard deviation 30.
    assert set(counts) == set(range(10))
    assert max(abs(count - 1000) for count in counts.values()) < 150


def test_rollouts_draw_independently() -> None:
    """Of 5 % under one salt and 5 % under another, 5 % of 5 % overlap."""
    devices = [f"camera-{index}" for index in range(100_000)]
    first = {device for device in devices if bucket("rollout-1", device) < 500}
    second = {device for device in devices if bucket("rollout-2", device) < 500}
    assert 4_700 < len(first) < 5_300
    # 250 expected, standard deviation 15.4.
    assert abs(len(first & second) - 250) < 77


def test_serial_ids_and_serial_salts_do_not_correlate() -> None:
    buckets = [[bucket(f"r{salt}", f"{index:06}") < 1000 for index in range(5000)] for salt in range(20)]
    for left in range(20):
        for right in range(left):
            both = sum(a and b for a, b in zip(buckets[left], buckets[right], strict=True))
            assert 15 < both < 95  # 50 expected, standard deviation 7
