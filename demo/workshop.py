"""Makes the demonstration's releases: trains, converts, ahead of time while the fleet is busy elsewhere."""

from __future__ import annotations

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.processes import Children
from edge_runtime.package import open_package
from ota_contract.manifest import MILLION, Release

__all__ = ["PLANS", "Made", "Plan", "Workshop", "variants_of"]

_ROOT = Path(__file__).resolve().parents[1]
_DIGITS = _ROOT / "models" / "digits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One release of the story."""

    version: str
    counter: int
    training: tuple[str, ...]
    """Options of models/digits/train.py."""


PLANS = (
    Plan(version="1.0.0", counter=1, training=("--epochs", "4")),
    Plan(version="1.1.0", counter=2, training=("--epochs", "30")),
    # Passes its golden vectors, and fails on every input brighter than those it was trained on.
    Plan(version="1.2.0", counter=3, training=("--epochs", "30", "--gain-table")),
    # Nothing is wrong with it; its bytes are tampered with on the server.
    Plan(version="1.3.0", counter=4, training=("--epochs", "12", "--seed", "7")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A finished package and the data that came with its training."""

    package: Path
    release: Release
    field: Path
    """Inputs as devices meet them."""


class Workshop:
    """Trains and converts one release after the other in the background."""

    def __init__(self, children: Children, folder: Path, ferry: Path) -> None:
        """Begin with the first plan at once."""
        self._children = children
        self._folder = folder
        self._ferry = ferry
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="workshop")
        self._made: dict[str, Future[Made]] = {
            plan.version: self._pool.submit(self._make, plan) for plan in PLANS
        }

    def release(self, version: str) -> Made:
        """A release, as soon as it is made.

        Raises:
            StepError: Its training or conversion failed.
        """
        return self._made[version].result()

    def close(self) -> None:
        """Begin no further release."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, plan: Plan) -> Made:
        trained = self._folder / "trained" / plan.version
        package = self._folder / "packages" / plan.version
        self._children.run(
            f"train {plan.version}",
            sys.executable,
            _DIGITS / "train.py",
            "--out",
            trained,
            *plan.training,
        )
        self._children.run(
            f"convert {plan.version}",
            self._ferry,
            "convert",
            _DIGITS / "recipe.toml",
            "-o",
            package,
            "--version",
            plan.version,
            "--counter",
            str(plan.counter),
            "--source",
            trained / "digits.keras",
            "--data",
            trained,
        )
        release, _ = open_package(package)
        return Made(package=package, release=release, field=trained / "field.npz")


def variants_of(release: Release) -> list[dict[str, Any]]:
    """A release's variants as the summary tells them."""
    return [
        {
            "release": release.version,
            "runtime": variant.runtime.value,
            "precision": variant.precision,
            "bytes": variant.length_bytes,
            "quality": variant.metrics.quality and variant.metrics.quality.value_ppm / MILLION,
            "quality_n": variant.metrics.quality and variant.metrics.quality.n,
            "verification": variant.verification.status.value,
        }
        for variant in release.variants
    ]
