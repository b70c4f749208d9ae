"""Convert a model into a package of small, verified variants.

  python models/digits/train.py
  ferry convert models/digits/recipe.toml -o build/digits
  ferry inspect build/digits

The recipe names the source model, its data, and the variants wanted. Each pass runs in a process of
its own, under the recipe's limits; every variant that can run here is run, compared with the source
and measured. The package appears when all of it is done, or not at all. The same inputs give the same
bytes; latency is measured once per variant and host and then remembered (--remeasure forgets). What passes
made is remembered, too: a later conversion runs only what changed (--no-cache runs all; see `ferry cache`).

A variant that loses more than the recipe's goal allows is kept, marked as failed, and never chosen by
a device. If that leaves a runtime without a variant, or a search finds none within the budget, the exit
code is 1.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converter.package import Package

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE.toml", help="what to convert into what")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="PACKAGE_DIR", help="folder to write"
    )
    parser.add_argument("--version", help="instead of the recipe's")
    parser.add_argument("--counter", type=int, metavar="N", help="instead of the recipe's")
    parser.add_argument("--source", type=Path, metavar="FILE", help="model instead of the recipe's")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the data sets instead")
    parser.add_argument("--no-cache", action="store_true", help="run every pass, and remember nothing")
    parser.add_argument("--remeasure", action="store_true", help="measure latency and memory again")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Convert, and say what came of it."""
    from converter.conversion import convert  # noqa: PLC0415 - `ferry convert --help` stays quick
    from converter.progress import progress_for  # noqa: PLC0415
    from converter.recipe import Overrides  # noqa: PLC0415
    from converter.toolchain import command_line  # noqa: PLC0415

    begun = time.monotonic()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: cleanly
    try:
        package = convert(
            arguments.recipe,
            arguments.output,
            overrides=Overrides(
                version=arguments.version,
                counter=arguments.counter,
                source=arguments.source,
                data=arguments.data,
            ),
            remeasure=arguments.remeasure,
            results=not arguments.no_cache,
            command=command_line(_inputs_of(arguments)),
            progress=progress_for(terminal=sys.stderr.isatty()),
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    seconds = time.monotonic() - begun
    if arguments.json:
        sys.stdout.write(json.dumps(_summary(package, seconds), indent=2) + "\n")
    else:
        _print(package, arguments.output, seconds)
    for line in package.slow:
        sys.stderr.write(f"ferry: {line}\n")
    for variant in package.failed:
        sys.stderr.write(f"ferry: {variant.id} failed its verification: {variant.verification.how}\n")
    for runtime in package.unserved:
        sys.stderr.write(f"ferry: no variant for {runtime.value} is usable\n")
    for search in package.unmet:
        sys.stderr.write(f"ferry: {search}: nothing that was tried keeps to the budget; see the report\n")
    return 1 if package.unserved or package.unmet else 0


def _inputs_of(arguments: argparse.Namespace) -> Sequence[str]:
    """The command without where its output goes, which does not change the package."""
    words = ["ferry", "convert", str(arguments.recipe)]
    for option in ("version", "counter", "source", "data"):
        value = getattr(arguments, option)
        if value is not None:
            words += [f"--{option}", str(value)]
    return words


def _summary(package: Package, seconds: float) -> dict[str, object]:
    from converter.commands.inspect import variant_row  # noqa: PLC0415

    release = package.release
    return {
        "package": str(package.path),
        "model": str(release.name),
        "version": release.version,
        "counter": release.counter,
        "seconds": round(seconds, 1),
        "steps": {name: round(value, 1) for name, value in package.seconds.items()},
        "variants": [variant_row(variant) for variant in release.variants],
        "proofs": list(package.proofs),
        "slow": list(package.slow),
        "unmet": list(package.unmet),
    }


def _print(package: Package, output: Path, seconds: float) -> None:
    from converter.commands.inspect import show_release  # noqa: PLC0415

    show_release(package.release)
    for line in package.proofs:
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"wrote {output} in {seconds:.0f} s; `ferry publish {output} …` signs and sends it\n")
