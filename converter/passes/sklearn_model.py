"""Opens a scikit-learn source: types from the closed list alone, whole trees, and what it answers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import skops.io
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.tree._tree import Tree

from converter.errors import SourceError
from converter.recipe import Recipe, shown_path
from converter.skops_types import TRUSTED
from converter.source_file import check_source
from edge_runtime.port import AnyArray

__all__ = ["answers", "final_step", "open_sklearn", "parts", "scores_raw"]

_LINE = 200
_MATRIX = 2


def open_sklearn(recipe: Recipe) -> Any:  # noqa: ANN401 - scikit-learn publishes no types
    """Load the source of a recipe.

    Raises:
        SourceError: It cannot be loaded, is not fitted, is damaged, or is not what the recipe describes.
    """
    check_source(recipe)  # again, here: the file may have changed since the parent looked
    shown = shown_path(recipe.source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of another version of scikit-learn; parity will tell
            model = skops.io.load(recipe.source, trusted=sorted(TRUSTED))
    except Exception as error:  # whatever skops, numpy or scikit-learn raise, the file is at fault
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SourceError(f"skops cannot open {shown}: {lines[0][:_LINE]}") from error
    if not isinstance(model, BaseEstimator) or not (is_classifier(model) or is_regressor(model)):
        raise SourceError(
            f"{shown} holds a {type(model).__name__}, which is neither classifier nor regressor"
        )
    for part in parts(model):
        _check_tree(part, shown)
    _check_signature(model, recipe, shown)
    return model


def final_step(model: Any) -> Any:  # noqa: ANN401
    """The estimator at the end of a pipeline, or the model itself."""
    while hasattr(model, "steps"):
        model = model.steps[-1][1]
    return model


def scores_raw(model: Any) -> bool:  # noqa: ANN401
    """Whether a classifier gives distances from its boundaries, for want of probabilities."""
    return is_classifier(model) and not hasattr(model, "predict_proba")


def answers(model: Any, values: AnyArray) -> AnyArray:  # noqa: ANN401
    """The answers, [samples, scores]: probabilities, else decision values; a regressor's are values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it was fitted on named columns, and gets them in their order
        if is_regressor(model):
            found = np.asarray(model.predict(values))
        elif scores_raw(model):
            found = np.asarray(model.decision_function(values))
            if found.ndim == 1:  # of two classes it tells the second's
                found = np.stack([-found, found], axis=1)
        else:
            found = np.asarray(model.predict_proba(values))
    return (found if found.ndim == _MATRIX else found[:, np.newaxis]).astype(np.float32)


def _check_signature(model: Any, recipe: Recipe, shown: str) -> None:  # noqa: ANN401
    columns = getattr(model, "n_features_in_", None)
    if columns is None:
        raise SourceError(f"{shown} is not fitted")
    if len(recipe.inputs) != 1 or len(recipe.outputs) != 1:
        raise SourceError(f"{recipe.shown}: a scikit-learn model has one input and one output")
    tensor = recipe.inputs[0].tensor
    if len(tensor.shape) != _MATRIX or tensor.shape[1] != columns:
        raise SourceError(
            f"the model takes {columns} columns, {recipe.shown} says {tensor.name} has {list(tensor.shape)}; "
            f"write shape = [-1, {columns}]"
        )
    try:
        width = answers(model, np.zeros((1, columns), np.float32)).shape[1]
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SourceError(f"{shown} answers nothing to one row of numbers: {lines[0][:_LINE]}") from error
    output = recipe.outputs[0]
    if len(output.shape) != _MATRIX or output.shape[1] not in (-1, width):
        raise SourceError(
            f"the model answers {width} numbers, {recipe.shown} says {output.name} has "
            f"{list(output.shape)}; write shape = [-1, {width}]"
        )


def parts(model: Any) -> Iterator[Any]:  # noqa: ANN401
    """Everything a model holds, once."""
    pending, seen = [model], set[int]()
    while pending:
        item = pending.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, (list, tuple, set)) or (
            isinstance(item, np.ndarray) and item.dtype.kind == "O"
        ):
            pending.extend(list(np.ravel(item)) if isinstance(item, np.ndarray) else item)
        elif hasattr(item, "__dict__") and not isinstance(item, type):
            pending.extend(vars(item).values())


def _check_tree(part: Any, shown: str) -> None:  # noqa: ANN401
    """scikit-learn follows a tree's numbers unchecked, outside its memory where they lead there."""
    if isinstance(part, Tree):
        count, features = part.node_count, part.n_features
        left, right, feature = part.children_left, part.children_right, part.feature
        leaves = left < 0
        lengths = {len(left), len(part.value)}
    elif isinstance(part, TreePredictor):
        count, features = len(part.nodes), int(np.iinfo(np.int32).max)
        left, right = (part.nodes[side].astype(np.int64) for side in ("left", "right"))
        feature, leaves = part.nodes["feature_idx"], part.nodes["is_leaf"].astype(bool)
        lengths = {count}
        if part.nodes["is_categorical"].any():
            raise SourceError(f"{shown} splits by categories, which no ONNX operator does; encode them first")
    else:
        return
    numbers = np.arange(count)
    # A child stands behind its parent, so that nothing runs in circles.
    follows = (left > numbers) & (right > numbers) & (left < count) & (right < count)
    fits = (feature >= 0) & (feature < features)
    if lengths != {count} or not np.all(leaves | (follows & fits)):
        raise SourceError(f"{shown} holds a damaged tree; save the model again")
