"""The source model's answers, kept between the pass that asks it and those that compare with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edge_runtime.port import AnyArray

__all__ = ["EVALUATION", "GOLDEN", "read_answers", "write_answers"]

EVALUATION, GOLDEN = "evaluation", "golden"
"""The sets the source is asked about."""


def write_answers(folder: Path, name: str, outputs: Mapping[str, AnyArray]) -> None:
    """Write the outputs for one set, by signature name."""
    np.savez(folder / f"{name}.npz", allow_pickle=False, **outputs)


def read_answers(folder: Path, name: str) -> dict[str, AnyArray]:
    """The outputs for one set, by signature name."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}
