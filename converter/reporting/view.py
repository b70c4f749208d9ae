"""What the page and the card say, as plain values: the one reading of a report and a manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converter.proof.metrics import Metric
from converter.reporting.words import bytes_text, duration_text, share_text
from ota_contract.manifest import MILLION, Quality, Release, Runtime, Variant, VerificationStatus

__all__ = ["Row", "metric_of", "passed_ways", "rows", "source_view", "verdict_view"]

_NONE = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A variant as a table shows it."""

    id: str
    runtime: str
    size: str
    share: str
    """Of the largest variant's size of the runtime."""
    quality: str
    drop: str
    p50: str
    p99: str
    memory: str
    status: str
    how: str
    needs: str


def rows(release: Release, document: Mapping[str, Any]) -> tuple[Row, ...]:
    """Every variant of the package, in order of preference."""
    return tuple(_row(variant, release.variants, document) for variant in release.variants)


def metric_of(document: Mapping[str, Any]) -> Metric:
    """What the variants were judged by."""
    return Metric(document["goal"]["metric"])


def source_value(document: Mapping[str, Any]) -> float:
    """The source's quality."""
    value: int = document["source"][document["goal"]["metric"]]["value_ppm"]
    return value / MILLION


def source_view(document: Mapping[str, Any]) -> dict[str, Any]:
    """The source model and what it is worth."""
    source, goal = document["source"], document["goal"]
    quality = source[goal["metric"]]
    return {
        "framework": source["framework"],
        "sha256": source["sha256"],
        "text": share_text(quality["value_ppm"] / MILLION),
        "interval": f"{quality['low_ppm'] / MILLION:.3f} … {quality['high_ppm'] / MILLION:.3f}",
        "n": document["datasets"]["evaluation"]["n"],
        "confidence": f"{goal['confidence']:.0%}",
    }


def verdict_view(release: Release, document: Mapping[str, Any]) -> dict[str, Any]:
    """One sentence for who reads one sentence."""
    goal = document["goal"]
    usable = [item for item in release.variants if item.verification.status is VerificationStatus.PASSED]
    budget = f"at most {goal['max_drop']:g} of {goal['metric'].replace('_', ' ')} may be lost"
    lost = [runtime.value for runtime in _runtimes(release.variants) if runtime not in _runtimes(usable)]
    if not usable:
        return {"good": False, "text": f"No variant keeps to the budget ({budget})."}
    best = min(usable, key=lambda item: item.rank)
    text = (
        f"{len(usable)} of {len(release.variants)} variants keep to the budget ({budget}); "
        f"devices prefer {best.id}, {bytes_text(best.metrics.size_bytes)}."
    )
    if lost:
        text += f" None does for {' and '.join(lost)}."
    return {"good": not lost, "text": text}


def passed_ways(release: Release) -> tuple[str, ...]:
    """How the variants that passed were judged, with their names; each way once."""
    ways: dict[str, list[str]] = {}
    for variant in release.variants:
        if variant.verification.status is VerificationStatus.PASSED:
            ways.setdefault(variant.verification.how, []).append(variant.id)
    return tuple(f"{', '.join(ids)} on {how}" for how, ids in ways.items())


def _runtimes(variants: Sequence[Variant]) -> tuple[Runtime, ...]:
    return tuple(dict.fromkeys(variant.runtime for variant in variants))


def _row(variant: Variant, every: Sequence[Variant], document: Mapping[str, Any]) -> Row:
    metrics = variant.metrics
    quality, latency = metrics.quality, metrics.latency
    largest = max(item.metrics.size_bytes for item in every if item.runtime is variant.runtime)
    memory = variant.requires.ram_bytes
    return Row(
        id=variant.id,
        runtime=variant.runtime.value,
        size=bytes_text(metrics.size_bytes),
        share=f"{metrics.size_bytes / largest:.0%}",
        quality=_NONE if quality is None else _with_interval(quality),
        drop=_NONE if quality is None else _drop(quality, document),
        p50=_NONE if latency is None else duration_text(latency.p50_us),
        p99=_NONE if latency is None else duration_text(latency.p99_us),
        memory=bytes_text(memory) if memory else _NONE,
        status=variant.verification.status.value,
        how=variant.verification.how,
        needs=_needs(variant),
    )


def _drop(quality: Quality, document: Mapping[str, Any]) -> str:
    lost = metric_of(document).drop(source_value(document), quality.value_ppm / MILLION)
    return f"{lost:+.4f}"


def _with_interval(quality: Quality) -> str:
    value, low, high = (item / MILLION for item in (quality.value_ppm, quality.low_ppm, quality.high_ppm))
    return f"{share_text(value)} ({low:.3f} … {high:.3f})"


def _needs(variant: Variant) -> str:
    needs = variant.requires
    return ", ".join(
        part for part in (f"{variant.runtime.value} {needs.runtime_version}".strip(), *needs.os) if part
    )
