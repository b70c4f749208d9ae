"""The whole journey on one machine, with a printed summary and build/demo/summary.json.

make demo                  everything is ended and removed afterwards
make demo ARGS=--keep      server and fleet stay up; the URL and tokens are printed
make demo ARGS=--stop      ends what --keep left
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType

from demo.errors import DemoError
from demo.journey import Journey, write_summary
from demo.processes import Children, stop_groups
from demo.telling import Teller
from ota_contract.errors import FerryError

__all__ = ["main"]

_BUILD = Path("build/demo")
_INTERRUPTED = 130
_LEAST_DEVICES = 10


def main(argv: list[str]) -> int:
    """Run the demonstration; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="make demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=53, help="size of the fleet (default %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave server and fleet running")
    parser.add_argument("--stop", action="store_true", help="end what --keep left running")
    arguments = parser.parse_args(argv)
    if arguments.devices < _LEAST_DEVICES:
        parser.error(f"--devices is at least {_LEAST_DEVICES}")
    build = _BUILD.resolve()
    if arguments.stop:
        return _stop(build)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _run(build, arguments.devices, keep=arguments.keep)
    except KeyboardInterrupt:
        sys.stderr.write("demo: interrupted; nothing was left running or half-written\n")
        return _INTERRUPTED
    except FerryError as error:
        sys.stderr.write(f"demo: {error}; the logs are in {_BUILD / 'logs'}\n")
        return 1
    return 0


def _run(build: Path, devices: int, *, keep: bool) -> None:
    running = build / "running.json"
    if running.exists():
        raise DemoError("an earlier demo is still running; end it with make demo ARGS=--stop")
    work = build / "work"
    shutil.rmtree(build, ignore_errors=True)
    work.mkdir(parents=True)
    # Cache and login of its own: it leaves nothing behind, and the person's own login stays.
    own = {"FERRY_CACHE": work / "cache", "FERRY_CONFIG": work / "credentials.json"}
    children = Children(build / "logs", {name: str(path) for name, path in own.items()})
    teller = Teller()
    journey = Journey(work, children, teller, devices=devices)
    kept = False
    try:
        journey.run()
        write_summary(build / "summary.json", journey.summary)
        _tell(teller, journey)
        if keep:
            running.write_text(json.dumps({"pids": children.pids}))
            journey.keep()
            kept = True
            teller.finish({f"token of {role}": token for role, token in journey.tokens.items()})
            teller.remark(f"The fleet runs on against {journey.server}; end it: make demo ARGS=--stop")
    finally:
        if not kept:
            # A second Ctrl-C must not interrupt the cleaning up.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            children.stop()
            journey.close()
            shutil.rmtree(work, ignore_errors=True)


def _tell(teller: Teller, journey: Journey) -> None:
    summary = journey.summary
    teller.table("Variants", summary.variants)
    teller.table("Rollouts", summary.rollouts)
    teller.finish(
        {
            "devices": json.dumps(summary.devices),
            "fallback": json.dumps(summary.fallback),
            "tampering": json.dumps(summary.tampering),
            "polls": json.dumps(summary.polls),
            "server": journey.server,
            "summary": _BUILD / "summary.json",
        }
    )
    teller.took()


def _stop(build: Path) -> int:
    running = build / "running.json"
    try:
        pids = json.loads(running.read_text())["pids"]
    except (OSError, ValueError, KeyError):
        sys.stderr.write("demo: nothing of an earlier demo is running\n")
        return 0
    stop_groups([pid for pid in pids if _is_ours(pid)])
    running.unlink()
    shutil.rmtree(build / "work", ignore_errors=True)
    return 0


def _is_ours(pid: int) -> bool:
    """Whether the process is one the demonstration started: its number may be another's by now."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return os.getpgid(pid) == pid and (b"ferry" in command or b"demo.fleet" in command)


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
