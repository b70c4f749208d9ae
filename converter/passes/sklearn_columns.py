"""Takes scalers in front of trees into the trees' thresholds, so that every decision stays as it was.

scikit-learn scales in doubles and rounds once; ONNX's operators round twice, an FP32 apart. Data on a
grid often lies exactly on a threshold, the middle between two training values, and there that one
rounding sends a sample down the other branch: on the wine data a forest behind a StandardScaler, converted
operator by operator, differed by 3e-2 in 3 of 178 samples. A scaler is monotone, though, so for each
threshold on what it gives there is a last FP32 number that it keeps below: found by bisection, by asking
scikit-learn itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from onnx import helper
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    RobustScaler,
    StandardScaler,
)

from converter.onnx_ml.rewriting import TREES
from converter.passes.onnx_graphs import attribute_of

__all__ = ["column_sources", "raw_thresholds", "with_raw_thresholds"]

_MONOTONE = (MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler)
_FARTHEST = np.float32(1e30)
"""Beyond it scaling overflows; no measured quantity is there."""
_PROBES = np.array([1e-6, 1e-3, 1.0, 1e3, 1e6, 1e12, 1e20], np.float32)
_BITS = 33
_ROWS = 4096


def column_sources(front: Any, columns: int) -> NDArray[np.int64] | None:  # noqa: ANN401
    """From which column each column of a transformer comes; None unless all are scaled one by one.

    Args:
        front: What stands before the trees.
        columns: How many it takes.
    """
    if not _scales(front):
        return None
    base = np.zeros((1, columns), np.float32)
    probes = np.repeat(base, columns * 2 * len(_PROBES), axis=0)
    owner = np.repeat(np.arange(columns), 2 * len(_PROBES))
    probes[np.arange(len(owner)), owner] = np.tile(np.concatenate([_PROBES, -_PROBES]), columns)
    before, after = _scaled(front, base), _scaled(front, probes)
    if after.dtype != np.float32:
        return None
    moved = (after != before).reshape(columns, -1, before.shape[1]).any(axis=1)  # [taken, given]
    if (moved.sum(axis=0) != 1).any():
        return None
    sources: NDArray[np.int64] = moved.argmax(axis=0)
    return sources


def with_raw_thresholds(model: Any, front: Any, sources: NDArray[np.int64], columns: int) -> bool:  # noqa: ANN401
    """Let an ONNX ensemble look at what the transformer takes, in place.

    Args:
        model: What stands behind the transformer, converted alone; its one input gets `columns` columns.
        front: The transformer.
        sources: As `column_sources` gives them.
        columns: How many columns the transformer takes.

    Returns:
        Whether all of the model that reads its input are ensembles; else nothing was changed.
    """
    taken = model.graph.input[0]
    readers = [node for node in model.graph.node if taken.name in node.input]
    if not all(node.op_type in TREES for node in readers):
        return False
    for node in readers:
        features = np.asarray(attribute_of(node, "nodes_featureids"), np.int64)
        values = np.asarray(attribute_of(node, "nodes_values"), np.float32)
        inner = np.array([mode != b"LEAF" for mode in attribute_of(node, "nodes_modes")])
        values[inner] = raw_thresholds(front, sources, columns, features[inner], values[inner])
        _replace(node, "nodes_featureids", [int(item) for item in sources[features]])
        _replace(node, "nodes_values", values.tolist())
    taken.type.tensor_type.shape.dim[1].dim_value = columns
    return True


def raw_thresholds(
    front: Any,  # noqa: ANN401
    sources: NDArray[np.int64],
    columns: int,
    features: NDArray[np.int64],
    thresholds: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The greatest FP32 numbers that are scaled to no more than the thresholds."""
    found = np.empty(len(features), np.float32)
    for start in range(0, len(features), _ROWS):
        part = slice(start, start + _ROWS)
        rows = np.arange(len(features[part]))
        below = np.full(len(rows), _key(-_FARTHEST), np.int64)
        above = np.full(len(rows), _key(_FARTHEST), np.int64)
        given = np.zeros((len(rows), columns), np.float32)
        for _ in range(_BITS):
            middle = below + (above - below + 1) // 2
            given[rows, sources[features[part]]] = _number(middle)
            fits = _scaled(front, given)[rows, features[part]] <= thresholds[part]
            below, above = np.where(fits, middle, below), np.where(fits, above, middle - 1)
        found[part] = _number(below)
    return found


def _scaled(front: Any, values: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: ANN401
    with sklearn.config_context(assume_finite=True), np.errstate(over="ignore"):
        scaled: NDArray[np.float32] = np.asarray(front.transform(values))
    return scaled


def _key(value: np.float32) -> int:
    """FP32 numbers as whole ones of the same order."""
    bits = int(np.float32(value).view(np.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def _number(keys: NDArray[np.int64]) -> NDArray[np.float32]:
    sign = np.where(keys < 0, np.float32(-1), np.float32(1))
    return np.abs(keys).astype(np.int32).view(np.float32) * sign


def _scales(part: Any) -> bool:  # noqa: ANN401
    """Whether each column given is one column taken, scaled so that order is kept."""
    match part:
        case "passthrough" | "drop":
            return True
        case Pipeline() | FeatureUnion() | ColumnTransformer():
            steps = getattr(part, "transformers_", None) or getattr(part, "transformer_list", None)
            return all(_scales(step[1]) for step in steps or part.steps)
        case FunctionTransformer():
            return part.func is None
        case SimpleImputer():  # an input is never NaN; another mark would break the order
            missing = part.missing_values
            return isinstance(missing, float) and np.isnan(missing) and not part.add_indicator
        case _:
            return isinstance(part, _MONOTONE)


def _replace(node: Any, name: str, value: Any) -> None:  # noqa: ANN401
    kept = [item for item in node.attribute if item.name != name]
    copies = [type(item).FromString(item.SerializeToString()) for item in kept]
    del node.attribute[:]
    node.attribute.extend([*copies, helper.make_attribute(name, value)])
