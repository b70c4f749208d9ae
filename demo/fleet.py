"""Many devices in one process: each a real `device_sdk.Ferry` with a folder of its own.

Started by the demonstration as `python -m demo.fleet FIELD.npz DEVICE_FOLDER…`. It feeds every device
inputs from the field, as an app would, and obeys JSON lines on stdin: `status`, `lose_model`, `keep`.
The end of stdin ends it, unless it was told to keep running.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from device_sdk import Ferry, NoAnswerError

__all__ = ["main"]

_MODEL = "vision/digits"
_INPUT = "image"
_ROUND_S = 0.15


class Fleet:
    """The devices, and the thread that gives them inputs."""

    def __init__(self, field: Path, folders: list[Path]) -> None:
        """Start an agent per folder; `field` holds the inputs under `image`."""
        with np.load(field, allow_pickle=False) as arrays:
            self._images = arrays["image"]
        self._configs = {folder.name: folder / "device.toml" for folder in folders}
        self._ferries = {name: Ferry.from_config(path) for name, path in self._configs.items()}
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._feeder = threading.Thread(target=self._feed, name="feeder", daemon=True)
        self._feeder.start()

    def status(self) -> dict[str, Any]:
        """What each device says of itself."""
        with self._lock:
            return {name: ferry.status() for name, ferry in self._ferries.items()}

    def lose_model(self, name: str) -> dict[str, Any]:
        """Delete everything a device has installed, restart it, and ask it at once."""
        with self._lock:
            self._ferries[name].close()
            store = self._configs[name].parent / "store"
            for folder in ("models", "blobs"):
                shutil.rmtree(store / folder, ignore_errors=True)
            with Ferry.from_config(self._configs[name], start_agent=False) as ferry:
                answer = ferry.model(_MODEL).predict({_INPUT: self._images[:1]}, deadline_ms=5000)
            self._ferries[name] = Ferry.from_config(self._configs[name])
        return {
            "device": name,
            "answered_by": str(answer.answered_by),
            "latency_ms": round(answer.latency_ms, 2),
            "reason": answer.reason,
        }

    def close(self) -> None:
        """Stop feeding and end every agent."""
        self._ending.set()
        self._feeder.join()
        with self._lock:
            for ferry in self._ferries.values():
                ferry.close()

    def _feed(self) -> None:
        row = 0
        while not self._ending.wait(_ROUND_S):
            with self._lock:
                ferries = list(self._ferries.values())
                for ferry in ferries:
                    row = (row + 1) % len(self._images)
                    _ask(ferry, self._images[row : row + 1])


def _ask(ferry: Ferry, image: Any) -> None:  # noqa: ANN401 - an array
    try:
        ferry.model(_MODEL).predict({_INPUT: image})
    except NoAnswerError:
        return  # an app would show its user so; the counts are in the reports


def main(argv: list[str]) -> int:
    """Run the fleet until stdin ends or a signal comes."""
    fleet = Fleet(Path(argv[0]), [Path(folder) for folder in argv[1:]])
    keep = False
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: _end(ended))
    _say({"devices": len(argv) - 1})
    for line in sys.stdin:
        command = json.loads(line)
        match command["do"]:
            case "status":
                _say(fleet.status())
            case "lose_model":
                _say(fleet.lose_model(command["device"]))
            case "keep":
                keep = True
    while keep and not ended.is_set():
        time.sleep(0.2)
    fleet.close()
    return 0


def _end(ended: threading.Event) -> None:
    ended.set()
    raise SystemExit(0)


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
