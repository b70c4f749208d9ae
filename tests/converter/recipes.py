"""Recipes for tests, made from parts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["ALL_VARIANTS", "IN_SOURCE", "recipe_text", "write_recipe", "write_tiny"]

ALL_VARIANTS = (
    ("tflite", "fp32"),
    ("tflite", "int8"),
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("coreml", "fp16"),
)
IN_SOURCE = '{ operation = "affine", scale = 0.0625, offset = 0.0, by = "source" }'


def recipe_text(
    model: Path,
    *,
    variants: Iterable[tuple[str, str]] = (("tflite", "fp32"),),
    source: Path | None = None,
    data: Path | None = None,
    shape: tuple[int, ...] = (-1, 8, 8, 1),
    preprocessing: str = IN_SOURCE,
    max_drop: float = 0.01,
    extra: str = "",
) -> str:
    """The digits recipe over a folder `train.py` wrote, with what a test changes."""
    data = data or model
    tables = "".join(
        f'[[variant]]\nruntime = "{runtime}"\nprecision = "{precision}"\n' for runtime, precision in variants
    )
    return f"""\
[release]
publisher = "vision"
model = "digits"
version = "1.0.0"
counter = 1
license = "CC-BY-4.0"
labels = {json.dumps(list("0123456789"))}
[source]
framework = "keras"
path = {json.dumps(str(source or model / "digits.keras"))}
made_by = "python models/digits/train.py"
[[input]]
name = "image"
datatype = "UINT8"
shape = {list(shape)}
layout = "NHWC"
preprocessing = [{preprocessing}]
[[output]]
name = "scores"
datatype = "FP32"
shape = [-1, 10]
[data]
calibration = {json.dumps(str(data / "calibration.npz"))}
evaluation = {json.dumps(str(data / "evaluation.npz"))}
golden = {json.dumps(str(data / "golden.npz"))}
[goal]
metric = "accuracy"
max_drop = {max_drop}
{extra}
{tables}"""


def write_recipe(folder: Path, text: str) -> Path:
    """Write a recipe; returns its path."""
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def write_tiny(
    folder: Path,
    source: Path,
    raw: Any,
    labels: Any,
    *,
    framework: str,
    shape: Iterable[int],
    classes: int,
    datatype: str = "FP32",
    layout: str = "",
    extra: str = "",
    preprocessing: str = "",
    variants: Iterable[tuple[str, str]] = (("onnx", "fp32"),),
    max_drop: float = 0.05,
) -> Path:
    """Write the data and the recipe of a model with one input `x` and one output `y`; returns the recipe.

    Half of the samples judge, a third calibrate, the rest are golden. `extra` goes into `[source]`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ends = [0, len(raw) // 2, len(raw) - len(raw) // 6, len(raw)]
    for part, low, high in zip(("evaluation", "calibration", "golden"), ends, ends[1:], strict=False):
        # Only what judges is labelled: an untrained model may give few samples one class.
        known = {"label": labels[low:high]} if part == "evaluation" else {}
        np.savez(folder / f"{part}.npz", x=raw[low:high], **known)
    tables = "".join(f'[[variant]]\nruntime = "{run}"\nprecision = "{kind}"\n' for run, kind in variants)
    text = f"""\
[release]
publisher = "vision"
model = "tiny"
version = "1.0.0"
counter = 1
license = "MIT"
labels = {json.dumps([str(index) for index in range(classes)])}
[source]
framework = "{framework}"
path = {json.dumps(str(source))}
{extra}
[[input]]
name = "x"
datatype = "{datatype}"
shape = {list(shape)}
layout = "{layout}"
preprocessing = [{preprocessing}]
[[output]]
name = "y"
datatype = "FP32"
shape = [{next(iter(shape))}, {classes}]
[data]
calibration = "calibration.npz"
evaluation = "evaluation.npz"
golden = "golden.npz"
[goal]
metric = "accuracy"
max_drop = {max_drop}
{tables}"""
    return write_recipe(folder, text)
