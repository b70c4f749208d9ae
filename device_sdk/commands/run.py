"""Run the update agent in the foreground until a signal ends it.

With --feed it also answers the rows of an array over and over, as an app would: for trying out a fleet.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from device_sdk.errors import ConfigError

if TYPE_CHECKING:
    from device_sdk.ferry import Ferry
    from edge_runtime.port import AnyArray

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--feed", type=Path, metavar="FILE", help="a .npy, or .npz with an array per input")
    parser.add_argument("--feed-rate", type=float, default=2.0, metavar="HZ", help="default %(default)s")


def run(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT."""
    from device_sdk.config import read_config  # noqa: PLC0415 - `--help` stays quick
    from device_sdk.errors import StoreLockedError  # noqa: PLC0415
    from device_sdk.ferry import Ferry  # noqa: PLC0415

    config = read_config(Path(arguments.config))
    if arguments.feed_rate <= 0:
        raise ConfigError("--feed-rate is above 0")
    rows = _rows(arguments.feed) if arguments.feed else None
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    with Ferry(config) as ferry:
        if not ferry.runs_agent:
            raise StoreLockedError(f"another process runs the agent of {config.store}")
        logging.basicConfig(format="%(asctime)s %(message)s")
        logging.getLogger("ferry").setLevel(logging.INFO)  # what the agent does, and not its libraries
        sys.stderr.write(f"ferry-device: {config.device.device_id} polls {config.server}\n")
        sys.stderr.flush()
        model = str(config.models[0])
        while not ending.wait(1.0 / arguments.feed_rate):
            if rows is not None:
                _answer(ferry, model, next(rows))
    return 0


def _answer(ferry: Ferry, model: str, inputs: dict[str, AnyArray]) -> None:
    from device_sdk.errors import NoAnswerError  # noqa: PLC0415

    try:
        ferry.model(model).predict(inputs)
    except NoAnswerError:
        return  # the counts in the reports say so; an input that does not fit ends the command


def _rows(path: Path) -> Iterator[dict[str, AnyArray]]:
    import numpy as np  # noqa: PLC0415

    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {name: loaded[name] for name in loaded.files} if path.suffix == ".npz" else {"image": loaded}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise ConfigError(f"{path} cannot be read as inputs: {error}") from error
    length = min(map(len, arrays.values()))
    if length == 0:
        raise ConfigError(f"{path} holds no rows")
    return (
        {name: array[row : row + 1] for name, array in arrays.items()}
        for row in itertools.cycle(range(length))
    )
