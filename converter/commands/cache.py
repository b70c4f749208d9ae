"""Show or clear what conversions remember: results of passes, and measurements.

  ferry cache show
  ferry cache clear

A conversion runs only what changed since an earlier one: inputs, options, code, installed versions or the
CPU. The folder is $FERRY_CACHE, else $XDG_CACHE_HOME/ferry, else ~/.cache/ferry. It stays within
$FERRY_CACHE_MB (10240 by default), what was unused for longest goes first; it may be deleted at any time.
`clear` keeps the measurements, which no later run would repeat, unless it is given --measurements.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from converter.caching.store import Kept, ResultStore, cache_folder, default_limit_bytes

__all__ = ["configure", "run"]

_MEGABYTE = 1_000_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="say where it is and what is in it")
    show.add_argument("--json", action="store_true", help="print JSON")
    clear = actions.add_parser("clear", help="remove the results")
    clear.add_argument("--measurements", action="store_true", help="and the latency and memory measured")


def run(arguments: argparse.Namespace) -> int:
    """Show, or clear."""
    folder = cache_folder(os.environ)
    store = ResultStore(folder, limit_bytes=default_limit_bytes(os.environ))
    if arguments.action == "clear":
        store.clear()
        if arguments.measurements:
            shutil.rmtree(folder / "measurements", ignore_errors=True)
        sys.stdout.write(f"cleared {folder}\n")
    elif arguments.json:
        sys.stdout.write(json.dumps(_summary(store, folder), indent=2) + "\n")
    else:
        _print(store, folder)
    return 0


def _summary(store: ResultStore, folder: Path) -> dict[str, object]:
    kept = store.listing()
    return {
        "folder": str(folder),
        "limit_bytes": store.limit_bytes,
        "bytes": sum(item.length_bytes for item in kept),
        "measurements": _measurements(folder),
        "results": [
            {
                "pass": item.name,
                "key": item.key,
                "bytes": item.length_bytes,
                "used": _instant(item),
            }
            for item in kept
        ],
    }


def _print(store: ResultStore, folder: Path) -> None:
    kept = store.listing()
    total = sum(item.length_bytes for item in kept)
    sys.stdout.write(
        f"{folder}: {len(kept)} results, {total / _MEGABYTE:.1f} of {store.limit_bytes / _MEGABYTE:.0f} MB; "
        f"{_measurements(folder)} measurements\n"
    )
    counts = Counter(item.name for item in kept)
    for name in sorted(counts):
        own = [item for item in kept if item.name == name]
        size = sum(item.length_bytes for item in own) / _MEGABYTE
        sys.stdout.write(f"  {name}: {counts[name]} ({size:.1f} MB), last used {_instant(own[0])}\n")


def _measurements(folder: Path) -> int:
    return sum(1 for _ in (folder / "measurements").glob("*.json"))


def _instant(item: Kept) -> str:
    return datetime.fromtimestamp(item.used_ns // 10**9, UTC).isoformat()
