"""Entry point of `ferry-device`.

  ferry-device run --config device.toml       the update agent in the foreground
  ferry-device check --config device.toml     poll once, now
  ferry-device status --config device.toml    what is installed, and how the update stands
  ferry-device predict --config device.toml --input image.npy

Exit codes: 0 done, 1 refused or failed with one line saying why, 2 usage.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from ota_contract import __version__
from ota_contract.errors import FerryError

__all__ = ["main"]

_COMMANDS = {
    "run": "run the update agent in the foreground",
    "check": "poll once, now, and report",
    "status": "show what is installed and how the update stands",
    "predict": "answer one input by the fallback chain",
}
_REFUSED, _INTERRUPTED = 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="ferry-device",
        description=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="version", version=f"ferry-device {__version__}")
    actions = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in _COMMANDS.items():
        module = importlib.import_module(f"device_sdk.commands.{name}")
        action = actions.add_parser(name, help=text, description=module.__doc__)
        action.add_argument("--config", default="device.toml", help="default: %(default)s")
        action.add_argument("--json", action="store_true", help="print JSON for other programs")
        module.configure(action)
        action.set_defaults(run=module.run)
    arguments = parser.parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except FerryError as error:
        sys.stderr.write(f"ferry-device: {' '.join(str(error).split())}\n")
        return _REFUSED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


if __name__ == "__main__":
    sys.exit(main())
