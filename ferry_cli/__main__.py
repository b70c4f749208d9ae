"""Entry point of `ferry`: one table from subcommand to the module that owns it.

`ferry --help` is printed from the table alone, so it imports no framework and takes no time.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from ota_contract import __version__
from ota_contract.errors import FerryError

__all__ = ["COMMANDS", "main"]

_DONE, _REFUSED, _USAGE, _INTERRUPTED = 0, 1, 2, 130


class Command(NamedTuple):
    """Where a subcommand lives, what it is for, and which extra brings what it imports."""

    module: str
    help: str
    extra: str


COMMANDS: dict[str, Command] = {
    # ML engineers
    "convert": Command(
        "converter.commands.convert", "convert a model into a package of verified variants", "keras"
    ),
    "plan": Command("converter.commands.plan", "show the conversion routes of a recipe", "converter"),
    "inspect": Command(
        "converter.commands.inspect", "check a package and show what its variants are worth", "cli"
    ),
    "cache": Command("converter.commands.cache", "show or clear what conversions remember", "converter"),
    "delta": Command(
        "converter.commands.delta", "add deltas to a package, from those devices are on", "converter"
    ),
    "publish": Command("converter.commands.publish", "sign a package and publish it as a release", "cli"),
    "cloud": Command(
        "edge_runtime.cloud_command", "serve a package over the Open Inference Protocol", "server,onnx"
    ),
    # Operators of the server
    "keys": Command("ota_server.commands.keys", "make keys, and change them in ceremonies", "server"),
    "serve": Command("ota_server.commands.serve", "run the OTA server", "server"),
    "token": Command("ota_server.commands.token", "create, list and revoke access tokens", "server"),
    "openapi": Command("ota_server.commands.openapi", "write the API's OpenAPI document", "server"),
    # Fleet managers
    "login": Command("ferry_cli.login", "remember a server and an access token", "cli"),
    "model": Command("ferry_cli.models", "list the models on a server", "cli"),
    "release": Command("ferry_cli.releases", "list, show and withdraw releases", "cli"),
    "cohort": Command("ferry_cli.cohorts", "name groups of devices by a rule", "cli"),
    "device": Command("ferry_cli.devices", "list, show, tag and forget devices", "cli"),
    "rollout": Command("ferry_cli.rollouts", "move a cohort to a release, in stages", "cli"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code (0 done, 1 refused or failed, 2 usage)."""
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError:  # `ferry … | head`: the reader has seen enough
        return _DONE
    finally:
        _flush()


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        _print(_overview())
        return _DONE if arguments else _USAGE
    if arguments[0] in ("-V", "--version"):
        _print(f"ferry {__version__}")
        return _DONE
    command = COMMANDS.get(arguments[0])
    if command is None:
        _print_error(f"no command {arguments[0]!r}; `ferry --help` lists them")
        return _USAGE
    return _run(arguments[0], command, arguments[1:])


def _run(name: str, command: Command, arguments: list[str]) -> int:
    try:
        module = importlib.import_module(command.module)
        parser = argparse.ArgumentParser(
            prog=f"ferry {name}",
            description=(module.__doc__ or command.help).strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(parser)
        code: int = module.run(parser.parse_args(arguments))
    except FerryError as error:
        _print_error(" ".join(str(error).split()))
        return _REFUSED
    except ModuleNotFoundError as error:
        _print_error(f"{error.name} is not installed: pip install 'edge-ferry[{command.extra}]'")
        return _REFUSED
    except KeyboardInterrupt:
        _print_error("interrupted; nothing was left half-written")
        return _INTERRUPTED
    return code


def _overview() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items())
    return (
        "usage: ferry COMMAND [options]\n\n"
        "Carries machine-learning models to edge devices.\n\n"
        f"{rows}\n\n"
        "`ferry COMMAND --help` explains a command. Devices run `ferry-device`."
    )


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more at its end, and would make a failure of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _print_error(text: str) -> None:
    sys.stderr.write(f"ferry: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
