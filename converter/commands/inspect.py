"""Check a package's digests and show what its variants are worth.

  ferry inspect build/digits

Accuracy is printed with its confidence interval and the number of samples: with 540, a difference of
half a point proves nothing. Latency is of one inference on the named host. "not run" means what it
says: nothing was compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_runtime.package import open_package
from ota_contract.documents import format_instant
from ota_contract.manifest import MILLION, Delta, Quality, Release, Variant
from ota_contract.preprocessing import InputSpec, input_spec_to_json

__all__ = ["configure", "run", "show_release", "variant_row"]

_PIPE_WIDTH = 200
_KILOBYTE = 1000
_INTERVAL_WIDTH = 14
_SHORT = 12


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("package", type=Path, metavar="PACKAGE_DIR", help="what `ferry convert` wrote")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Check and show."""
    release, _ = open_package(arguments.package)
    if arguments.json:
        value = {
            "model": str(release.name),
            "version": release.version,
            "counter": release.counter,
            "floor": release.floor,
            "created": format_instant(release.created),
            "license": release.license,
            "golden_vectors": release.golden.vectors,
            "preprocessing": [input_spec_to_json(spec) for spec in release.preprocessing],
            "variants": [variant_row(variant) for variant in release.variants],
            "deltas": [_delta_row(release, delta) for delta in release.deltas],
            "toolchain": dict(release.toolchain),
        }
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        return 0
    show_release(release)
    return 0


def variant_row(variant: Variant) -> dict[str, Any]:
    """A variant's figures, for programs."""
    metrics, verification = variant.metrics, variant.verification
    quality, latency = metrics.quality, metrics.latency
    return {
        "id": variant.id,
        "runtime": variant.runtime.value,
        "precision": variant.precision,
        "bytes": metrics.size_bytes,
        "quality": None if quality is None else quality.value_ppm / MILLION,
        "quality_low": None if quality is None else quality.low_ppm / MILLION,
        "quality_high": None if quality is None else quality.high_ppm / MILLION,
        "quality_metric": None if quality is None else quality.metric,
        "quality_n": None if quality is None else quality.n,
        "latency_p50_us": None if latency is None else latency.p50_us,
        "latency_p99_us": None if latency is None else latency.p99_us,
        "max_abs_error": verification.max_abs_error,
        "verification": verification.status.value,
        "how": verification.how,
        "ram_bytes": variant.requires.ram_bytes,
        "runtime_version": variant.requires.runtime_version,
        "rank": variant.rank,
    }


def _delta_row(release: Release, delta: Delta) -> dict[str, Any]:
    target = next(file for file in release.files() if file.sha256 == delta.target_sha256)
    return {
        "path": target.path,
        "bytes": target.length_bytes,
        "delta_bytes": delta.file.length_bytes,
        "delta_path": delta.file.path,
        "base_sha256": delta.base_sha256,
    }


def _taken(spec: InputSpec) -> str:
    """A raw value and what becomes of it."""
    words = [f"{step.operation.value}{' (in the graph)' if step.folded else ''}" for step in spec.steps]
    made = f" → {', '.join(spec.produces)}" if spec.tokenizer else ""
    raw = f"{spec.input} {spec.raw_datatype.value} {list(spec.raw_shape)}"
    return f"{raw}: {', '.join(words) or 'as it is'}{made}"


def show_release(release: Release) -> None:
    """Print a release, the table of its variants, and what was or was not run of each."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    console.print(
        f"[bold]{release.name} {release.version}[/bold]  counter {release.counter}, "
        f"floor {release.floor}, {escape(release.license)}, {release.golden.vectors} golden vectors"
    )
    for spec in release.preprocessing:
        console.print(f"takes {escape(_taken(spec))}")
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for heading in ("#", "VARIANT", "RUNTIME", "TYPE", "VERIFIED"):
        table.add_column(heading, no_wrap=True)
    table.add_column("kB", justify="right", no_wrap=True)
    table.add_column(_metric(release), min_width=_INTERVAL_WIDTH)  # folds first where the terminal is narrow
    for heading in ("P50", "P99", "PARITY"):
        table.add_column(heading, justify="right", no_wrap=True)
    for variant in release.variants:
        table.add_row(*_cells(variant))
    console.print(table)
    for how, ids in _reasons(release).items():
        console.print(f"{', '.join(ids)}: {escape(how)}", style="dim")
    hosts = {item.metrics.latency.host for item in release.variants if item.metrics.latency is not None}
    if hosts:
        names = escape(", ".join(sorted(hosts)))
        console.print(f"latency: one inference on one thread of {names}", style="dim")
    if release.deltas:
        console.print(_delta_table(release))


def _delta_table(release: Release) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("DELTA TO", overflow="fold")
    table.add_column("FROM", no_wrap=True)
    for heading in ("BYTES", "INSTEAD OF", "SHARE"):
        table.add_column(heading, justify="right", no_wrap=True)
    for delta in release.deltas:
        row = _delta_row(release, delta)
        table.add_row(
            escape(row["path"]),
            delta.base_sha256[:_SHORT],
            f"{row['delta_bytes']:,}",
            f"{row['bytes']:,}",
            f"{row['delta_bytes'] / row['bytes']:.0%}",
        )
    return table


def _cells(variant: Variant) -> tuple[str, ...]:
    latency, error = variant.metrics.latency, variant.verification.max_abs_error
    runtime = f"{variant.runtime.value} {variant.requires.runtime_version}".strip()
    return (
        str(variant.rank),
        variant.id,
        escape(f"{runtime}+" if variant.requires.runtime_version else runtime),
        escape(variant.precision),
        variant.verification.status.value.replace("_", " "),
        f"{variant.metrics.size_bytes / _KILOBYTE:.1f}",
        _share(variant.metrics.quality),
        "–" if latency is None else f"{latency.p50_us} µs",
        "–" if latency is None else f"{latency.p99_us} µs",
        "–" if error is None else f"{error:.1g}",
    )


def _reasons(release: Release) -> dict[str, list[str]]:
    """Variants by what was run of them, or why nothing was."""
    reasons: dict[str, list[str]] = {}
    for variant in release.variants:
        reasons.setdefault(variant.verification.how, []).append(variant.id)
    return reasons


def _metric(release: Release) -> str:
    """What the variants were judged by."""
    qualities = (variant.metrics.quality for variant in release.variants)
    return next((quality.metric.upper() for quality in qualities if quality is not None), "QUALITY")


def _share(quality: Quality | None) -> str:
    if quality is None:
        return "–"
    share, low, high = (value / MILLION for value in (quality.value_ppm, quality.low_ppm, quality.high_ppm))
    return escape(f"{share:.4f} [{low:.3f}, {high:.3f}] n={quality.n}")
