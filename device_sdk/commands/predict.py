"""Answer one input by the fallback chain, and say who answered.

The input is a .npy file with the raw value, batch axis included, a .json file {"name": nested lists}, or for
a model that takes BYTES the image (.png, .jpg, .jpeg) or the text (.txt) itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from device_sdk.errors import ConfigError

if TYPE_CHECKING:
    from edge_runtime.port import RawValue
    from ota_contract.tensors import Tensor

__all__ = ["configure", "run"]

_AS_BYTES = (".png", ".jpg", ".jpeg", ".txt")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--input", type=Path, required=True, metavar="FILE", help=".npy, .json, image or .txt"
    )
    parser.add_argument(
        "--name", default="image", help="the input's name, but for a .json (default %(default)s)"
    )
    parser.add_argument("--model", metavar="PUBLISHER/MODEL", help="default: the first of device.toml")
    parser.add_argument("--deadline-ms", type=float, help="time within which an answer is of use")


def run(arguments: argparse.Namespace) -> int:
    """Predict once."""
    from device_sdk.config import read_config  # noqa: PLC0415 - `--help` stays quick
    from device_sdk.ferry import Ferry  # noqa: PLC0415

    config = read_config(Path(arguments.config))
    stated = _read(arguments.input, arguments.name)
    # The agent stays off: one prediction must not begin an update.
    with Ferry(config, start_agent=False) as ferry:
        model = ferry.model(arguments.model or str(config.models[0]))
        inputs = _as_signed(stated, model.inputs, arguments.input)
        answer = model.predict(inputs, deadline_ms=arguments.deadline_ms)
    outputs = {name: array.tolist() for name, array in answer.outputs.items()}
    result = {
        "outputs": outputs,
        "answered_by": answer.answered_by.value,
        "release": answer.release,
        "accelerator": answer.accelerator,
        "reason": answer.reason,
        "latency_ms": round(answer.latency_ms, 3),
    }
    if arguments.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for name, value in result.items():
            sys.stdout.write(f"{name}: {value}\n")
    return 0


def _as_signed(stated: dict[str, Any], signature: tuple[Tensor, ...], path: Path) -> dict[str, RawValue]:
    """JSON's numbers have no type: give them the signature's."""
    import numpy as np  # noqa: PLC0415

    types = {tensor.name: tensor.datatype.dtype for tensor in signature}
    try:
        return {
            name: value if isinstance(value, (np.ndarray, bytes)) else np.array(value, dtype=types.get(name))
            for name, value in stated.items()
        }
    except (OverflowError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} does not fit the model's inputs: {error}") from error


def _read(path: Path, name: str) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415

    try:
        if path.suffix.lower() in _AS_BYTES:
            return {name: path.read_bytes()}
        if path.suffix == ".json":
            return dict(json.loads(path.read_text()).items())
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, AttributeError, EOFError, RecursionError, BadZipFile) as error:
        raise ConfigError(f"{path} cannot be read as an input: {error}") from error
    return {name: array}
