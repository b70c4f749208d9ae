"""Fuzz one target: `python -m tests.fuzz TARGET --seconds N`, or run one input: `--input FILE`.

Ends with 0 when nothing was found. A finding is printed as hexadecimal and as Python's repr; with --corpus
the inputs that reached something new are kept, and the next run begins with them.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.harness import Harness
from tests.fuzz.targets import TARGETS

_ROOT = Path(__file__).parents[2]
_MOST_CHARACTERS = 20_000


def main() -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--input", type=Path, help="run this one alone")
    parser.add_argument("--corpus", type=Path, help="kept between runs")
    arguments = parser.parse_args()
    if arguments.input:
        Harness(TARGETS[arguments.target], weigh_every=1).check(arguments.input.read_bytes())
        return 0
    memory = "/dev/shm"  # noqa: S108 - a private folder in it, for what flushes files all the time
    fast = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="ferry-fuzz-", dir=fast) as scratch:
        corpus = arguments.corpus or Path(scratch) / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        return _fuzz(arguments, corpus, Path(scratch))


def _fuzz(arguments: argparse.Namespace, corpus: Path, findings: Path) -> int:
    options = {
        "seconds": arguments.seconds,
        "seed": arguments.seed,
        "corpus": corpus.resolve(),
        "findings": findings,
    }
    command = [sys.executable, "-m", "tests.fuzz.process", arguments.target]
    command += [f"--{name}={value}" for name, value in options.items()]
    environment = {**os.environ, "TMPDIR": str(findings)}
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, check=False)
    log = done.stderr.decode(errors="replace")
    runs = re.search(r"number_of_executed_units: +(\d+)", log)
    coverage = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", log)
    if done.returncode == 0 and runs and coverage:
        edges, features, kept = coverage[-1]
        rate = int(runs[1]) // max(1, arguments.seconds)
        sys.stdout.write(
            f"{arguments.target}: {runs[1]} inputs, {rate} a second, {edges} edges, {features} features, "
            f"{kept} inputs kept; nothing found\n"
        )
        return 0
    found = log.find("FOUND ")
    told = log[found : found + _MOST_CHARACTERS] if found >= 0 else log[-_MOST_CHARACTERS:]
    sys.stdout.write(f"{arguments.target}: ended with {done.returncode}\n{told}\n")
    # Also of a hang, which the process itself could not tell.
    for path in sorted(path for path in findings.glob("*-*") if path.is_file()):
        data = path.read_bytes()
        sys.stdout.write(f"{path.name}, {len(data)} bytes: {data.hex()}\nas text: {data!r}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
