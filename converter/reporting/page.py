"""Renders the report's page and the model card: templates over the values of `converter.reporting.view`.

The page is one file: no script, no font, no picture from elsewhere, and a policy that forbids them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from converter.reporting.charts import Bar, Point, bar_chart, confusion_chart, scatter_chart
from converter.reporting.view import metric_of, passed_ways, rows, source_value, source_view, verdict_view
from converter.reporting.words import bytes_text, duration_text, share_text
from ota_contract.manifest import MILLION, Release, Variant, VerificationStatus

__all__ = ["render_card", "render_page"]

_MOST_BARS = 30
_MOST_CLASSES = 24
_DROPPED = "dropped"


def render_page(release: Release, document: Mapping[str, Any]) -> bytes:
    """`report.html`.

    Args:
        release: As it is in the package's manifest.
        document: The report, as `report.json` holds it.
    """
    template = _environment(html=True).get_template("report.html.j2")
    text = template.render(
        _shared(release, document),
        host=document["host"],
        ways=passed_ways(release),
        better="Up" if metric_of(document).higher_is_better else "Down",
        by_size=_by_size(release, document),
        by_latency=_by_latency(release, document),
        sensitivity=list(_sensitivity(document)),
        confusion=list(_confusion(release, document)),
        searches=[_search(item) for item in document.get("search", ())],
        passes=document["passes"],
        datasets=sorted(document["datasets"].items()),
    )
    return text.encode()


def render_card(release: Release, document: Mapping[str, Any]) -> bytes:
    """`CARD.md`: the model card, in Markdown with a YAML head."""
    template = _environment(html=False).get_template("card.md.j2")
    text = template.render(
        _shared(release, document),
        host=document["host"],
        license=release.license,
        labels=release.labels,
        tensors=[("input", item) for item in release.inputs] + [("output", item) for item in release.outputs],
        evaluation_sha256=document["datasets"]["evaluation"]["sha256"],
    )
    return text.encode()


def _environment(*, html: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("converter.reporting"),
        autoescape=html,  # noqa: S701 - the card is Markdown: `cell` keeps its tables whole
        undefined=StrictUndefined,
        trim_blocks=html,
        lstrip_blocks=html,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = lambda text: " ".join(str(text).split()).replace("|", "\\|")
    return environment


def _shared(release: Release, document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": str(release.name),
        "version": release.version,
        "metric_name": metric_of(document).value.replace("_", " "),
        "source": source_view(document),
        "verdict": verdict_view(release, document),
        "certification": document.get("certification", ()),
        "variants": rows(release, document),
        "toolchain": release.toolchain,
    }


def _by_size(release: Release, document: Mapping[str, Any]) -> str:
    points = [
        point
        for variant in release.variants
        if (point := _point(variant, variant.metrics.size_bytes, bytes_text))
    ]
    points += [_tried(trial, item, trial["size_bytes"], document) for item, trial in _dropped(document)]
    return scatter_chart(
        points,
        x_name="size",
        y_name=metric_of(document).value,
        x_text=bytes_text,
        lines=_lines(document),
        up=metric_of(document).higher_is_better,
    )


def _by_latency(release: Release, document: Mapping[str, Any]) -> str:
    timed = [(item, item.metrics.latency) for item in release.variants if item.metrics.latency is not None]
    points = [point for item, latency in timed if (point := _point(item, latency.p50_us, duration_text))]
    points += [
        _tried(trial, item, trial["p50_us"], document)
        for item, trial in _dropped(document)
        if trial.get("p50_us")
    ]
    return scatter_chart(
        points, x_name="latency", y_name=metric_of(document).value, x_text=duration_text,
        lines=_lines(document),
        up=metric_of(document).higher_is_better,
    )  # fmt: skip


def _point(variant: Variant, price: float, text: Any) -> Point | None:  # noqa: ANN401
    quality = variant.metrics.quality
    if quality is None:
        return None
    share = quality.value_ppm / MILLION
    return Point(
        name=variant.id,
        x=price,
        y=share,
        low=quality.low_ppm / MILLION,
        high=quality.high_ppm / MILLION,
        kind=variant.runtime.value,
        dropped=variant.verification.status is VerificationStatus.FAILED,
        title=f"{variant.id}: {share_text(share)}, {text(price)}",
    )


def _dropped(document: Mapping[str, Any]) -> Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    for item in document.get("search", ()):
        for trial in item["trials"]:
            if trial["id"] != item["chosen"] and trial["size_bytes"] and trial["drop"] is not None:
                yield item, trial


def _tried(
    trial: Mapping[str, Any], search: Mapping[str, Any], price: float, document: Mapping[str, Any]
) -> Point:
    value, low, high = (_after(document, trial[key]) for key in ("drop", "high", "low"))
    return Point(
        name=trial["id"],
        x=price,
        y=value,
        low=min(low, high),
        high=max(low, high),
        kind=search["runtime"],
        dropped=True,
        title=f"{trial['id']}: {trial['why']}",
    )


def _after(document: Mapping[str, Any], drop: float) -> float:
    """The metric of what loses this much of it."""
    source = source_value(document)
    return source - drop if metric_of(document).higher_is_better else source + drop


def _lines(document: Mapping[str, Any]) -> list[tuple[str, float]]:
    return [("source", source_value(document)), ("budget", _after(document, document["goal"]["max_drop"]))]


def _sensitivity(document: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for item in document.get("sensitivity", ()):
        layers = sorted(item["layers"], key=lambda layer: (-layer["loss"], layer["layer"]))
        bars = [
            Bar(
                name=f"{layer['layer']} ({layer['op']})",
                value=max(0.0, layer["loss"]),
                text=f"{layer['loss']:.3g}",
            )
            for layer in layers[:_MOST_BARS]
        ]
        rest = len(layers) - len(bars)
        more = f" The other {rest} lose less." if rest > 0 else ""
        yield {
            "runtime": item["runtime"],
            "caption": item["caption"] + more,
            "chart": bar_chart(bars, name=f"sensitivity of layers in {item['runtime']}"),
        }


def _confusion(release: Release, document: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for variant in release.variants:
        counts = document.get("confusion", {}).get(variant.id)
        if not counts or len(counts) > _MOST_CLASSES:
            continue
        total = sum(map(sum, counts))
        moved = total - sum(line[index] for index, line in enumerate(counts))
        if not moved:
            continue
        labels = release.labels or tuple(map(str, range(len(counts))))
        yield {
            "id": variant.id,
            "chart": confusion_chart(labels, counts, name=f"source against {variant.id}"),
            "moved": moved,
            "n": total,
        }


def _search(item: Mapping[str, Any]) -> dict[str, Any]:
    kept = f"{item['chosen']} was chosen" if item["chosen"] else "nothing kept to the budget"
    return {
        "runtime": item["runtime"],
        "caption": f"{len(item['trials'])} were tried; {kept}.",
        "trials": [_trial(trial) for trial in item["trials"]],
    }


def _trial(trial: Mapping[str, Any]) -> dict[str, Any]:
    drop, p50 = trial["drop"], trial.get("p50_us")
    return {
        "id": trial["id"],
        "rules": len(trial["rules"]) or "–",
        "size": bytes_text(trial["size_bytes"]) if trial["size_bytes"] else "–",
        "drop": "–" if drop is None else f"{drop:+.4f} ({trial['low']:+.3f} … {trial['high']:+.3f})",
        "p50": duration_text(p50) if p50 else "–",
        "outcome": trial["outcome"],
        "kind": "passed" if trial["outcome"] == "chosen" else "",
        "why": trial["why"],
    }
