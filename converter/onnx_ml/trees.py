"""Tree ensembles in tensor form.

All nodes are compared at once, which gives every node its successor for this sample; then each tree
steps from its root to its leaf, one look-up a level. `docs/converting-sklearn.md` has the figures of
this form beside that of matrix products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from onnx import TensorProto

from converter.onnx_ml.emitting import Rewrite, Use, labelled, transformed
from converter.onnx_ml.forest import Forest, forest_of

__all__ = ["OPERATORS"]

_BINARY = 2


def _regressor(use: Use) -> list[str]:
    scores = use.attr("n_targets", 1)
    forest = forest_of(use, weights="target", scores=scores)
    total = _summed(use, forest)
    aggregate = use.attr("aggregate_function", "SUM")
    if aggregate == "AVERAGE":
        total = use.add("Mul", total, use.constant(np.float32(1 / len(forest.roots))))
    elif aggregate != "SUM":
        use.refuse(f"aggregate_function {aggregate}")
    return [transformed(use, _with_base(use, total, forest))]


def _classifier(use: Use) -> list[str]:
    classes = len(use.attr("classlabels_int64s") or use.attr("classlabels_strings") or ())
    told = set(use.attr("class_ids", ()))
    if classes == _BINARY and len(told) == 1:
        scores = _second_class(use)
    else:
        forest = forest_of(use, weights="class", scores=classes)
        scores = transformed(use, _with_base(use, _summed(use, forest), forest))
    return [labelled(use, scores), scores]


def _second_class(use: Use) -> str:
    """Both classes' scores of an ensemble that speaks of one; ONNX Runtime's reading of the specification."""
    column = use.attr("class_ids")[0]
    forest = forest_of(use, weights="class", scores=column + 1)
    base = use.floats("base_values")
    if len(base) > 1:
        use.refuse("base values for two classes, leaves for one")
    score = _summed(use, replace(forest, values=forest.values[:, column:]))
    if len(base):
        score = use.add("Add", score, use.constant(base))
    kind = use.attr("post_transform", "NONE")
    certain = not len(base) and bool((forest.values >= 0).all())
    if kind == "NONE" and certain:
        other = use.add("Sub", use.constant(np.float32(1)), score)
    elif kind in ("NONE", "LOGISTIC") and not certain:
        other = use.add("Neg", score)
    else:
        use.refuse(f"post_transform {kind} of an ensemble that speaks of one class of two")
    return transformed(use, use.add("Concat", other, score, axis=-1))


def _with_base(use: Use, total: str, forest: Forest) -> str:
    base, scores = use.floats("base_values"), len(forest.certain)
    if not len(base):
        return total
    if len(base) not in (1, scores):
        use.refuse(f"{len(base)} base values for {scores} scores")
    if not forest.certain[base != 0 if len(base) == scores else slice(None)].all():
        # The specification adds the base value always, ONNX Runtime only to what a leaf was added to.
        use.refuse("a base value of a score that a sample may end in no leaf of")
    return use.add("Add", total, use.constant(base))


def _summed(use: Use, forest: Forest) -> str:
    """The sums of the leaves the trees end in, [batch, scores]."""
    looked_at = use.add("Gather", use.floating(), use.constant(forest.features), axis=1)
    right = use.add("Greater", looked_at, use.constant(forest.thresholds))
    # [batch, nodes]: where each node leads for this sample
    after = use.add("Cast", right, to=TensorProto.INT32)
    after = use.add("Add", after, use.constant(forest.children[np.newaxis]))
    # The first step is the same look-up for all samples: from the roots.
    at = use.add("Gather", after, use.constant(forest.roots), axis=1)
    for _ in range(max(0, forest.depth - 1)):
        at = use.add("GatherElements", after, at, axis=1)
    leaves = use.add("Gather", use.constant(forest.values), at, axis=0)  # [batch, trees, scores]
    return use.reduced("ReduceSum", leaves, 1, keepdims=False)


OPERATORS: Mapping[str, Rewrite] = {
    "TreeEnsembleClassifier": _classifier,
    "TreeEnsembleRegressor": _regressor,
}
