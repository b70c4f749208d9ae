"""Linear models: one matrix product."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from converter.onnx_ml.emitting import Rewrite, Use, labelled, transformed

__all__ = ["OPERATORS"]

_BINARY = 2


def _scores(use: Use, columns: int, weights: str) -> str:
    coefficients = use.floats("coefficients").reshape(columns, -1)
    offsets = use.floats("intercepts")
    if weights == "target" and not len(offsets):
        offsets = np.zeros(columns, np.float32)
    if len(offsets) != columns:
        use.refuse(f"{len(offsets)} intercepts for {columns} {weights}s")
    return use.add(
        "Gemm",
        use.floating(),
        use.constant(np.ascontiguousarray(coefficients.T)),
        use.constant(offsets),
    )


def _classifier(use: Use) -> list[str]:
    columns = len(use.floats("intercepts"))
    classes = len(use.attr("classlabels_ints") or use.attr("classlabels_strings") or ())
    if classes not in (0, columns) and (classes, columns) != (_BINARY, 1):
        use.refuse(f"{columns} rows of coefficients for {classes} classes")
    scores = _scores(use, columns, "class")
    if columns == 1 and classes == _BINARY:
        # One row tells of the second class; the first has the rest.
        scores = use.add("Concat", use.add("Neg", scores), scores, axis=-1)
        if use.attr("post_transform", "NONE") == "SOFTMAX":
            use.refuse("post_transform SOFTMAX of one row of coefficients")
    scores = transformed(use, scores)
    return [labelled(use, scores), scores]


def _regressor(use: Use) -> list[str]:
    return [transformed(use, _scores(use, use.attr("targets", 1), "target"))]


OPERATORS: Mapping[str, Rewrite] = {"LinearClassifier": _classifier, "LinearRegressor": _regressor}
