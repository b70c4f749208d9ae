"""Converts the digits model in every precision of every runtime: size, accuracy and latency of each.

    python -m benchmarks.precisions --model build/digits-model [--page docs/precisions.md]

The model's folder is what `models/digits/train.py` writes. With `--page` the table in that page is renewed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.figures import command_line, leave
from converter.host import this_host
from converter.nodes import Node
from converter.routes import PASSES
from edge_runtime.package import open_package
from ota_contract.manifest import Runtime, Variant

_RECIPE = Path("models/digits/recipe.toml")
_BEGIN, _END = "<!-- figures: python -m benchmarks.precisions -->", "<!-- end of figures -->"


def measure(model: Path) -> dict[str, Any]:
    """Every variant's figures, the float one of each runtime first."""
    with tempfile.TemporaryDirectory() as name:
        recipe, package = Path(name) / "recipe.toml", Path(name) / "package"
        recipe.write_text(_recipe())
        command = [sys.executable, "-m", "ferry_cli", "convert", str(recipe), "-o", str(package)]
        sources = ["--source", str(model / "digits.keras"), "--data", str(model), "--remeasure"]
        subprocess.run([*command, *sources], check=True, stdout=sys.stderr)
        release, _ = open_package(package)
        variants = [_figures(release.variant(node.id)) for node in _nodes()]
    return {"host": this_host().cpu, "variants": variants}


def table(figures: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    lines = [
        f"Digits, 540 evaluation samples, one thread of {figures['host']}:",
        "",
        "| Runtime | Precision | kB | Accuracy | 95 % | Farthest answer | p50 µs | Needs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for item in figures["variants"]:
        low, high = (f"{value / 1e6:.3f}" for value in item["interval_ppm"])
        latency = "–" if item["p50_us"] is None else f"{item['p50_us']}"
        lines.append(
            f"| {item['runtime']} | {item['precision']} | {item['size_bytes'] / 1000:.1f} "
            f"| {item['accuracy_ppm'] / 1e6:.4f} | {low}–{high} | {item['max_abs_error']:.2g} "
            f"| {latency} | {item['needs']} |"
        )
    return "\n".join(lines)


def _nodes() -> list[Node]:
    nodes = dict.fromkeys(step.target for step in PASSES if step.target.format.runtime is not None)
    return sorted(nodes, key=lambda node: list(Runtime).index(Runtime(node.format.value)))


def _recipe() -> str:
    head = _RECIPE.read_text().partition("[[variant]]")[0]
    return head + "".join(
        f'[[variant]]\nruntime = "{node.format.value}"\nprecision = "{node.precision.value}"\n'
        for node in _nodes()
    )


def _figures(variant: Variant) -> dict[str, Any]:
    quality, latency = variant.metrics.quality, variant.metrics.latency
    if quality is None:
        raise RuntimeError(f"{variant.id} was not evaluated: {variant.verification.how}")
    return {
        "runtime": variant.runtime.value,
        "precision": variant.precision,
        "size_bytes": variant.metrics.size_bytes,
        "accuracy_ppm": quality.value_ppm,
        "interval_ppm": [quality.low_ppm, quality.high_ppm],
        "max_abs_error": variant.verification.max_abs_error,
        "p50_us": None if latency is None else latency.p50_us,
        "needs": variant.requires.runtime_version,
    }


def main() -> int:
    """Measure, write, and renew the page."""
    parser = command_line(__doc__, "precisions")
    parser.add_argument("--model", type=Path, default=Path("build/digits-model"), metavar="FOLDER")
    parser.add_argument("--page", type=Path, metavar="FILE", help="a page whose table is to be renewed")
    arguments = parser.parse_args()
    figures = measure(arguments.model.resolve())
    leave(figures, arguments.json)
    if arguments.page is not None:
        between = re.compile(f"{re.escape(_BEGIN)}.*{re.escape(_END)}", re.DOTALL)
        page = arguments.page.read_text()
        arguments.page.write_text(between.sub(f"{_BEGIN}\n{table(figures)}\n{_END}", page))
    return 0


if __name__ == "__main__":
    sys.exit(main())
