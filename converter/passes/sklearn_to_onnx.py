"""scikit-learn → ONNX, FP32: skl2onnx's converters, with trees that decide as scikit-learn's do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import skl2onnx
from skl2onnx.common import tree_ensemble
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import is_classifier
from sklearn.ensemble import HistGradientBoostingRegressor, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

from converter.errors import PassError, Reason, RouteError
from converter.jobs import Job
from converter.passes.onnx_delivery import deliver
from converter.passes.onnx_graphs import all_nodes, all_tensors
from converter.passes.onnx_signature import matched
from converter.passes.onnx_source import opset_of
from converter.passes.sklearn_columns import column_sources, with_raw_thresholds
from converter.passes.sklearn_model import final_step, open_sklearn, parts, scores_raw
from converter.recipe import Recipe, shown_path

__all__ = ["exported", "run"]

_INPUT = "columns"
_LINE = 200
_EXPONENTIAL = ("gamma", "poisson")
_REWRITTEN = 13
"""The oldest opset that operators of `ai.onnx.ml` are written out in."""
_ML = 3
"""Of `ai.onnx.ml`: what every ONNX Runtime of the last years reads."""


def run(job: Job) -> Mapping[str, Any]:
    """Write `model.onnx`; the facts describe it."""
    recipe = job.recipe()
    model = exported(open_sklearn(recipe), int(job.params["opset"]))
    _check_finite(job, recipe, model)
    return deliver(job, recipe, model, matched(model, recipe))


def exported(estimator: Any, opset: int) -> Any:  # noqa: ANN401 - scikit-learn and onnx publish no types
    """The ONNX model of a fitted estimator: one input of FP32 columns, one output of scores.

    Raises:
        RouteError: skl2onnx cannot convert it.
    """
    _make_convertible(estimator)
    model = None
    if isinstance(estimator, Pipeline) and len(estimator.steps) > 1:
        model = _trees_alone(estimator, opset)
    if model is None:
        model = _converted(estimator, estimator.n_features_in_, opset)
    if opset_of(model) < _REWRITTEN:  # skl2onnx names the oldest that has what it used
        model = onnx.version_converter.convert_version(model, _REWRITTEN)
    if is_classifier(estimator):
        del model.graph.output[0]  # the class, which is that of the greatest score
    for item in model.graph.output:
        item.type.tensor_type.ClearField("shape")  # of two classes it states one column
    return model


def _make_convertible(estimator: Any) -> None:  # noqa: ANN401
    """Say what skl2onnx reads otherwise, in place; refuse what it converts wrongly."""
    for part in parts(estimator):
        if isinstance(part, VotingClassifier):
            part.flatten_transform = False  # concerns `transform` alone
        if isinstance(part, SimpleImputer) and isinstance(part.missing_values, int):
            part.missing_values = float(part.missing_values)
        if isinstance(part, (HistGradientBoostingRegressor, MLPRegressor)) and part.loss in _EXPONENTIAL:
            raise RouteError(
                f"skl2onnx leaves out the exponential of {type(part).__name__}(loss={part.loss!r}); "
                "fit the logarithm with another loss"
            )


def _trees_alone(pipeline: Any, opset: int) -> Any | None:  # noqa: ANN401
    """The model without the scalers in front of its trees, where that is possible."""
    front, last = pipeline[:-1], pipeline[-1]
    columns = pipeline.n_features_in_
    sources = column_sources(front, columns)
    if sources is None:
        return None
    model = _converted(last, last.n_features_in_, opset)
    return model if with_raw_thresholds(model, front, sources, columns) else None


def _converted(estimator: Any, columns: int, opset: int) -> Any:  # noqa: ANN401
    last = final_step(estimator)
    options: dict[str, object] = {}
    if is_classifier(last):
        options = {"raw_scores": True} if scores_raw(last) else {}
        if not isinstance(last, LinearSVC):  # which skl2onnx gives none
            options["zipmap"] = False
    original = tree_ensemble.add_node
    tree_ensemble.add_node = _exact(original)
    try:
        model = skl2onnx.convert_sklearn(
            estimator,
            initial_types=[(_INPUT, FloatTensorType([None, columns]))],
            options={id(last): options} if options else None,
            target_opset={"": opset, "ai.onnx.ml": _ML},
        )
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise RouteError(f"skl2onnx cannot convert {type(last).__name__}: {lines[0][:_LINE]}") from error
    finally:
        tree_ensemble.add_node = original
    return model


def _exact(add_node: Callable[..., None]) -> Callable[..., None]:
    """skl2onnx's recorder of tree nodes, told thresholds and flags as ONNX's attributes can hold them.

    A threshold is a double; the FP32 numbers not above it are those not above the FP32 just below.
    skl2onnx rounds HistGradientBoosting's to the nearest instead, and hands over numpy's truth values.
    """

    def add(attributes: Any, classifier: Any, tree: Any, weight: Any, *node: Any, **more: Any) -> None:  # noqa: ANN401
        number, feature, mode, threshold, true, false, *leaf = node
        more["nodes_missing_value_tracks_true"] = int(more.get("nodes_missing_value_tracks_true", 0))
        add_node(
            attributes,
            classifier,
            tree,
            weight,
            number,
            int(feature),
            mode,
            _below(float(threshold)),
            int(true),
            int(false),
            *leaf,
            **more,
        )

    return add


def _below(threshold: float) -> float:
    """The greatest FP32 number that is not above; FP32's bounds for what lies beyond."""
    bounds = np.finfo(np.float32)
    rounded = np.float32(np.clip(threshold, bounds.min, bounds.max))
    return float(np.nextafter(rounded, np.float32(-math.inf)) if float(rounded) > threshold else rounded)


def _check_finite(job: Job, recipe: Recipe, model: Any) -> None:  # noqa: ANN401
    """No number in the converted model may be NaN or infinite."""
    arrays = [onnx.numpy_helper.to_array(tensor) for _, tensor in all_tensors(model)]
    arrays += [np.asarray(item.floats) for node in all_nodes(model) for item in node.attribute if item.floats]
    for array in arrays:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            message = f"{shown_path(recipe.source)}: a weight is NaN or infinite; train the model again"
            raise PassError(job.name, Reason.NOT_FINITE, message)
