"""Ferry on a device: signed updates in the background, local inference that never lets the app down.

    from device_sdk import Ferry

    with Ferry.from_config("device.toml") as ferry:
        answer = ferry.model("vision/digits").predict({"image": pixels}, deadline_ms=50)
        print(answer.outputs["scores"], answer.answered_by)

Importing this package imports no runtime and no numpy; they come with the first model that is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ota_contract import __version__

if TYPE_CHECKING:
    from device_sdk.config import Config, read_config
    from device_sdk.errors import DeviceError, NoAnswerError
    from device_sdk.ferry import Ferry
    from device_sdk.model import Answer, Model

__all__ = [
    "Answer",
    "Config",
    "DeviceError",
    "Ferry",
    "Model",
    "NoAnswerError",
    "__version__",
    "read_config",
]

_HOMES = {
    "Answer": "device_sdk.model",
    "Config": "device_sdk.config",
    "DeviceError": "device_sdk.errors",
    "Ferry": "device_sdk.ferry",
    "Model": "device_sdk.model",
    "NoAnswerError": "device_sdk.errors",
    "read_config": "device_sdk.config",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    """Import a public name when it is first used."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(home), name)
