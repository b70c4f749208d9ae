"""Add deltas to a package: a device that has an earlier release fetches them instead of whole files.

  ferry convert models/digits/recipe.toml -o build/digits-1.1.0 --version 1.1.0 --counter 2
  ferry delta build/digits-1.1.0 --from build/digits-1.0.0
  ferry publish build/digits-1.1.0 --key keys/publishers/vision.pem

Run it before `ferry publish`: a published release is immutable, and its deltas are part of it. Every
file that differs from its counterpart in an earlier package gets a delta, if that saves a fifth of the
file at least. Each delta is applied once before it is kept. Deltas the package has are replaced by those
of this call; the same packages give the same bytes.

Only a device that holds the very file a delta starts from can use it, and any other fetches the whole
file: name the releases your devices are on.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converter.deltas.package import Attempt
    from ota_contract.manifest import Release

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("package", type=Path, metavar="PACKAGE_DIR", help="the new package; changed in place")
    parser.add_argument(
        "--from",
        type=Path,
        action="append",
        required=True,
        dest="bases",
        metavar="OLD_PACKAGE_DIR",
        help="a package devices may be on; may be given several times",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Add them, and say what they save."""
    from converter.deltas.package import add_deltas  # noqa: PLC0415 - `--help` is quick
    from converter.progress import progress_for  # noqa: PLC0415

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: cleanly
    try:
        release, attempts = add_deltas(
            arguments.package, arguments.bases, progress=progress_for(terminal=sys.stderr.isatty())
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    if arguments.json:
        sys.stdout.write(json.dumps(_document(release, attempts), indent=2) + "\n")
    else:
        _print(release, attempts, arguments.package)
    return 0


def _document(release: Release, attempts: tuple[Attempt, ...]) -> dict[str, object]:
    return {
        "model": str(release.name),
        "version": release.version,
        "deltas": [
            {
                "from": attempt.base_version,
                "path": attempt.path,
                "bytes": attempt.length_bytes,
                "delta_bytes": attempt.delta_bytes,
                "kept": attempt.kept,
            }
            for attempt in attempts
        ],
    }


def _print(release: Release, attempts: tuple[Attempt, ...], package: Path) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    if not attempts:
        sys.stdout.write(f"{package}: no file differs from those packages'; there is nothing to make\n")
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for heading in ("FROM", "FILE"):
        table.add_column(heading, overflow="fold")
    for heading in ("BYTES", "DELTA", "SHARE"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for attempt in attempts:
        table.add_row(
            attempt.base_version,
            escape(attempt.path),
            f"{attempt.length_bytes:,}",
            f"{attempt.delta_bytes:,}",
            f"{attempt.share:.0%}",
            "" if attempt.kept else "not kept: it saves too little",
        )
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    console.print(table)
    kept = len(release.deltas)
    sys.stdout.write(
        f"{package}: {kept} {'delta' if kept == 1 else 'deltas'} of {release.name} {release.version}\n"
    )
