"""The page, the card and the bill of materials say what the report says, and nothing from outside gets in."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given
from hypothesis import strategies as st

from converter.reporting.bom import dump_bom
from converter.reporting.charts import Point, bar_chart, scatter_chart
from converter.reporting.page import render_card, render_page
from converter.reporting.scales import scale_of
from converter.reporting.words import bytes_text, duration_text
from ota_contract.manifest import (
    Latency,
    Metrics,
    Quality,
    Release,
    VerificationStatus,
    parse_release,
)
from tests.support.documentation import blocks

HOSTILE = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def release() -> Release:
    """The example of the release format, its variants with figures that differ."""
    (found,) = blocks("docs/release-format.md", "json ferry.release/1")
    example = parse_release(found.strip().encode())
    (variant,) = example.variants[:1]
    passed = replace(variant.verification, status=VerificationStatus.PASSED, how="30 samples in a runtime")
    failed = replace(variant.verification, status=VerificationStatus.FAILED, how="accuracy drops by 0.05")
    small = replace(
        variant,
        id="onnx-int8",
        precision="int8",
        rank=0,
        verification=passed,
        metrics=_metrics(54_000, 981_000, p50_us=24),
    )
    large = replace(
        variant,
        id="onnx-fp32",
        precision="fp32",
        rank=1,
        verification=passed,
        metrics=_metrics(192_000, 985_000, p50_us=19),
    )
    bad = replace(
        variant, id="onnx-int4", rank=2, verification=failed, metrics=_metrics(30_000, 930_000, p50_us=40)
    )
    return replace(example, variants=(small, large, bad), labels=("zero", HOSTILE))


def _metrics(size_bytes: int, value_ppm: int, *, p50_us: int) -> Metrics:
    quality = Quality(
        metric="accuracy",
        value_ppm=value_ppm,
        low_ppm=value_ppm - 8000,
        high_ppm=value_ppm + 8000,
        confidence_ppm=950_000,
        n=540,
        dataset_sha256="ab" * 32,
    )
    latency = Latency(p50_us=p50_us, p99_us=2 * p50_us, runs=1000, threads=1, host="a CPU")
    return Metrics(size_bytes=size_bytes, quality=quality, latency=latency)


def document(**changes: Any) -> dict[str, Any]:
    """A report."""
    share = {"value_ppm": 985_000, "low_ppm": 977_000, "high_ppm": 993_000}
    data = {name: {"n": 540, "sha256": "cd" * 32} for name in ("calibration", "evaluation", "golden")}
    return {
        "goal": {"metric": "accuracy", "max_drop": 0.01, "confidence": 0.95},
        "host": {"cpu": f"a CPU {HOSTILE}", "isa": "x86_64 avx2"},
        "datasets": data,
        "source": {"framework": "keras", "sha256": "ef" * 32, "accuracy": share},
        "passes": [{"id": "p", "from": "keras-fp32", "model": "onnx-fp32", "reason": HOSTILE}],
        "certification": ["n = 540 cannot certify 0.5 points; it certifies 1.6"],
        **changes,
    }


class _Reader(HTMLParser):
    """Collects elements, addresses and text; notices what is left open."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")
        ]
        if tag not in ("meta", "br", "link", "img"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        del attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def left_open(self) -> list[str]:
        """Elements without an end."""
        return self._open


def _read(content: bytes) -> _Reader:
    reader = _Reader()
    reader.feed(content.decode())
    assert not reader.left_open
    return reader


def test_the_page_stands_alone_and_runs_nothing(release: Release) -> None:
    page = _read(render_page(release, document()))
    assert page.addresses == []
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(page.names)
    assert HOSTILE in page.text  # shown as text, wherever it came from


def test_the_page_shows_every_variant_with_its_interval_and_verdict(release: Release) -> None:
    page = _read(render_page(release, document())).text
    assert "2 of 3 variants keep to the budget" in page
    assert "devices prefer onnx-int8, 54 kB" in page
    assert "0.9810 (0.973 … 0.989)" in page
    assert "accuracy drops by 0.05" in page
    assert "it certifies 1.6" in page


def test_a_page_of_failures_says_so(release: Release) -> None:
    bad = tuple(replace(item, verification=release.variants[2].verification) for item in release.variants)
    page = _read(render_page(replace(release, variants=bad), document()))
    assert "No variant keeps to the budget" in page.text


def test_what_search_and_sensitivity_found_is_drawn(release: Release) -> None:
    layers = [
        {"layer": f"block_{index}/conv", "op": "Conv", "weight_bytes": 100, "loss": index / 1000}
        for index in range(40)
    ]
    trial = {
        "id": "onnx-int4-weights", "rules": [{"op": "Gemm"}], "size_bytes": 30_000, "drop": 0.03, "low": 0.01,
        "high": 0.05, "p50_us": 40, "outcome": "dropped", "why": "drops 0.0300",
    }  # fmt: skip
    chosen = {**trial, "id": "onnx-int8", "outcome": "chosen", "why": "smallest that keeps to the budget"}
    content = document(
        search=[{"runtime": "onnx", "chosen": "onnx-int8", "trials": [trial, chosen]}],
        sensitivity=[{"runtime": "onnx", "caption": "Each layer alone in integers.", "layers": layers}],
        confusion={"onnx-int8": [[270, 1], [2, 267]], "onnx-fp32": [[271, 0], [0, 269]]},
    )
    page = _read(render_page(release, content)).text
    assert "2 were tried; onnx-int8 was chosen" in page
    assert "block_39/conv (Conv)" in page
    assert "block_5/conv" not in page
    assert "The other 10 lose less" in page
    assert "Where onnx-int8 answers otherwise" in page
    assert "3 of 540" in " ".join(page.split())
    assert "Where onnx-fp32" not in page


def test_the_card_keeps_its_tables_whole(release: Release) -> None:
    tensor = replace(release.inputs[0], meaning="a | b\nc")
    card = render_card(replace(release, inputs=(tensor,)), document()).decode()
    row = next(line for line in card.splitlines() if line.startswith("| input"))
    assert "a \\| b c" in row
    assert "| `onnx-int8` | 54 kB | 0.9810" in card
    assert "`onnx-int4` is failed: accuracy drops by 0.05" in card


def test_the_bill_of_materials_keeps_to_its_schema(release: Release) -> None:
    content = dump_bom(release, document())
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(content.decode()) is None
    bill = json.loads(content)
    assert [item["bom-ref"] for item in bill["components"][:3]] == ["onnx-int8", "onnx-fp32", "onnx-int4"]
    digests = {file["hashes"][0]["content"] for item in bill["components"][:3] for file in item["components"]}
    assert digests == {file.sha256 for variant in release.variants for file in variant.files}


def test_equal_values_give_equal_bytes(release: Release) -> None:
    for render in (render_page, render_card, dump_bom):
        assert render(release, document()) == render(release, document())


@given(st.lists(st.tuples(st.floats(1, 1e9), st.floats(0, 1), st.floats(0, 0.1)), min_size=1, max_size=12))
def test_every_point_is_drawn_inside_its_chart(values: list[tuple[float, float, float]]) -> None:
    points = [
        Point(name=f"v{index}", x=x, y=y, low=y - half, high=y + half, kind="onnx", dropped=False, title="t")
        for index, (x, y, half) in enumerate(values)
    ]
    chart = scatter_chart(points, x_name="size", y_name="accuracy", x_text=bytes_text)
    places = re.findall(r'<circle cx="([-\d.]+)" cy="([-\d.]+)"', chart)
    assert len(places) == len(points)
    assert all(0 < float(x) < 720 and 0 < float(y) < 380 for x, y in places)


def test_a_chart_of_nothing_says_so() -> None:
    chart = scatter_chart([], x_name="latency", y_name="accuracy", x_text=duration_text)
    assert "nothing was measured here" in chart
    assert "<rect" not in bar_chart([], name="none")


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_an_axis_names_values_it_shows(values: list[float]) -> None:
    scale = scale_of(values, start=0, end=100)
    assert scale.low <= min(values) <= max(values) <= scale.high
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks)
    assert list(scale.ticks) == sorted(scale.ticks)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (54_400, "54.4 kB"), (2_000_000, "2 MB"), (123_456, "123 kB")],
)
def test_lengths_are_read_at_a_glance(value: int, text: str) -> None:
    assert bytes_text(value) == text


def test_durations_are_read_at_a_glance() -> None:
    assert [duration_text(value) for value in (7, 1500, 2_000_000)] == ["7 µs", "1.5 ms", "2 s"]
