"""What each example model is worth after conversion: a table in the README, made from packages alone.

  python -m models.results                 train what is not there, convert every model, write the table
  python -m models.results --table-only    write the table from the packages in build/

A figure is nobody's memory: it is read from the manifest and the `report.json` of a package, and the table
names the host they were measured on. The sentence encoder's weights are a package of their own, see its card.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.recipe import load_recipe
from converter.reporting.view import rows, source_view
from edge_runtime.package import open_package
from ota_contract.manifest import Release, VerificationStatus

__all__ = ["BEGIN", "COLUMNS", "END", "MODELS", "main", "replaced", "table"]

MODELS = ("digits", "mobilenet", "keywords", "minilm")
BEGIN, END = "<!-- results -->", "<!-- /results -->"
COLUMNS = ("model", "float", "runtime", "best of", "size", "quality (95 %)", "lost", "p50")

_REPOSITORY = Path(__file__).resolve().parents[1]
_README = _REPOSITORY / "README.md"
_SCRIPTS = {"minilm": "export"}
"""What makes a model, where it is not `train`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Package:
    """A converted model."""

    name: str
    release: Release
    document: Mapping[str, Any]
    """Its `report.json`."""


def main() -> int:
    """Convert the models, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table-only", action="store_true", help="convert nothing")
    if not parser.parse_args().table_only:
        for name in MODELS:
            _make(name)
    text = table(_packages(_REPOSITORY / "build"))
    _README.write_text(replaced(_README.read_text(), text))
    print(text)
    return 0


def table(packages: Iterable[_Package]) -> str:
    """The table in Markdown: of each model and runtime, the variant a device prefers."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    hosts: dict[str, None] = {}
    for package in packages:
        hosts[package.document["host"]["cpu"]] = None
        lines += [f"| {' | '.join(cells)} |" for cells in _cells(package)]
    lines += [
        "",
        f"p50 is of one inference on one thread of {' and '.join(hosts)}; “–”: it does not run here.",
    ]
    return "\n".join(lines)


def replaced(readme: str, text: str) -> str:
    """The README with the text between the markers.

    Raises:
        ValueError: The markers are not there, each once and in order.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in after:
        raise ValueError(f"the README must hold {BEGIN} and {END}, each once and in this order")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def _make(name: str) -> None:
    """Train a model unless its file is there, and convert it; the processor time of both is printed."""
    recipe = _REPOSITORY / "models" / name / "recipe.toml"
    source = _REPOSITORY / "build" / f"{name}-model"
    if not source.is_dir():
        seconds = _run("-m", f"models.{name}.{_SCRIPTS.get(name, 'train')}")
        print(f"{name}: made in {seconds:.0f} s of processor time", flush=True)
    load_recipe(recipe)  # before anything runs for minutes
    seconds = _run("-m", "ferry_cli", "convert", str(recipe), "-o", str(_REPOSITORY / "build" / name))
    print(f"{name}: converted in {seconds:.0f} s of processor time", flush=True)


def _run(*arguments: str) -> float:
    """Run Python; returns the processor seconds it took.

    A variant that fails its verification is a result, too: the table shows the best of those that passed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=_REPOSITORY, check=True)  # noqa: S603 - our own modules
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _packages(build: Path) -> Iterator[_Package]:
    for name in MODELS:
        release, _ = open_package(build / name)
        document = json.loads((build / name / "report.json").read_bytes())
        yield _Package(name=name, release=release, document=document)


def _cells(package: _Package) -> Iterator[tuple[str, ...]]:
    """A row for each runtime that a variant serves, the model's own worth in the first."""
    view, metric = source_view(package.document), str(package.document["goal"]["metric"])
    worth = f"{metric.replace('_', ' ')} {view['text']}, n = {view['n']}"
    named = f"[{package.name}](models/{package.name}/CARD.md)"
    shown = {row.id: row for row in rows(package.release, package.document)}
    searches = package.document.get("search", [])
    best: dict[str, str] = {}
    for variant in sorted(package.release.variants, key=lambda variant: variant.rank):
        if variant.verification.status is VerificationStatus.PASSED:
            best.setdefault(variant.runtime.value, variant.id)
    for runtime, variant_id in sorted(best.items()):
        row = shown[variant_id]
        made = sum(variant.runtime.value == runtime for variant in package.release.variants)
        tried = sum(len(search["trials"]) for search in searches if search["runtime"] == runtime)
        precision = package.release.variant(variant_id).precision
        of = f"{precision} of {made}" + (f", {tried} searched" if tried else "")
        yield named, worth, runtime, of, row.size, row.quality, row.drop, row.p50
        named = worth = ""


if __name__ == "__main__":
    sys.exit(main())
