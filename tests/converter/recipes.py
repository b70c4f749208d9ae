"""Recipes for tests, made from parts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

__all__ = ["ALL_VARIANTS", "IN_SOURCE", "recipe_text", "write_recipe"]

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
