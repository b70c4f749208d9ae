"""Rank is a pure function of size and verdict, whatever this host measured."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from converter.ranking import ranked
from ota_contract.manifest import (
    Latency,
    Metrics,
    Requirements,
    Runtime,
    Variant,
    Verification,
    VerificationStatus,
)


def _variant(number: int, size: int, status: VerificationStatus, p50_us: int) -> Variant:
    latency = Latency(p50_us=p50_us, p99_us=p50_us, runs=1, threads=1, host="any")
    return Variant(
        id=f"v{number}",
        runtime=Runtime.ONNX,
        precision="fp32",
        files=(),
        requires=Requirements(),
        inputs=(),
        outputs=(),
        metrics=Metrics(size_bytes=size, latency=latency),
        verification=Verification(status=status, how=""),
        tolerances=(),
        rank=0,
    )


variants = st.lists(
    st.tuples(st.integers(1, 50), st.sampled_from(list(VerificationStatus)), st.integers(1, 999)),
    min_size=1,
    max_size=12,
).map(lambda rows: [_variant(number, *row) for number, row in enumerate(rows)])


@given(variants, st.randoms(use_true_random=False))
def test_the_order_they_came_in_does_not_matter(given_variants: list[Variant], random: object) -> None:
    shuffled = list(given_variants)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert ranked(shuffled) == ranked(given_variants)


@given(variants)
def test_ranks_count_up_smaller_before_larger_failed_last(given_variants: list[Variant]) -> None:
    result = ranked(given_variants)
    assert [variant.rank for variant in result] == list(range(len(given_variants)))
    for better, worse in pairwise(result):
        failed = [item.verification.status is VerificationStatus.FAILED for item in (better, worse)]
        assert failed != [True, False]
        if failed[0] == failed[1]:
            assert better.metrics.size_bytes <= worse.metrics.size_bytes


@given(variants)
def test_latency_changes_no_rank(given_variants: list[Variant]) -> None:
    """Else noise on the converting host would reorder a fleet."""
    unmeasured = [replace(item, metrics=replace(item.metrics, latency=None)) for item in given_variants]
    assert [item.id for item in ranked(unmeasured)] == [item.id for item in ranked(given_variants)]
