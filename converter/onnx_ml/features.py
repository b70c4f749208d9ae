"""Operators that prepare numeric columns: scaling, filling, encoding, choosing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from converter.onnx_ml.emitting import Rewrite, Use

__all__ = ["OPERATORS"]


def _scaler(use: Use) -> list[str]:
    offset, scale = use.floats("offset"), use.floats("scale")
    shifted = use.add("Sub", use.floating(), use.constant(offset))
    return [use.add("Mul", shifted, use.constant(scale))]


def _imputer(use: Use) -> list[str]:
    filling = use.floats("imputed_value_floats")
    if not len(filling):
        use.refuse("it fills in whole numbers")
    missing = np.float32(use.attr("replaced_value_float", 0.0))
    values = use.floating()
    where = use.add("IsNaN", values) if np.isnan(missing) else use.add("Equal", values, use.constant(missing))
    return [use.add("Where", where, use.constant(filling), values)]


def _normalizer(use: Use) -> list[str]:
    values, kind = use.floating(), use.attr("norm", "MAX")
    if kind == "L1":
        size = use.reduced("ReduceSum", use.add("Abs", values), -1, keepdims=True)
    elif kind == "L2":
        squares = use.reduced("ReduceSum", use.add("Mul", values, values), -1, keepdims=True)
        size = use.add("Sqrt", squares)
    else:
        # ONNX Runtime takes the greatest value, the specification does, scikit-learn the greatest size.
        size = use.reduced("ReduceMax", values, -1, keepdims=True)
    nothing = use.add("Equal", size, use.constant(np.float32(0)))
    return [use.add("Div", values, use.add("Where", nothing, use.constant(np.float32(1)), size))]


def _binarizer(use: Use) -> list[str]:
    above = use.add("Greater", use.floating(), use.constant(np.float32(use.attr("threshold", 0.0))))
    return [use.add("Cast", above, to=TensorProto.FLOAT)]


def _one_hot(use: Use) -> list[str]:
    categories = use.attr("cats_int64s")
    if not categories:
        use.refuse("its categories are text")
    if not use.attr("zeros", 1):
        use.refuse("zeros 0: a value of no category is to be an error, which no device raises")
    whole = use.add("Cast", use.node.input[0], to=TensorProto.INT64)
    last = use.add("Unsqueeze", whole, use.constant(np.array([-1], np.int64)))
    equal = use.add("Equal", last, use.constant(np.array(categories, np.int64)))
    return [use.add("Cast", equal, to=TensorProto.FLOAT)]


def _label_encoder(use: Use) -> list[str]:
    """A table from numbers to numbers."""
    keys, values, default, kind = _table(use)
    last = use.add("Unsqueeze", use.node.input[0], use.constant(np.array([-1], np.int64)))
    equal = use.add("Cast", use.add("Equal", last, use.constant(keys)), to=TensorProto.FLOAT)
    # What has no key has an empty row: the products add up what each value differs from the default.
    products = use.add("Mul", equal, use.constant((values - default).astype(np.float32)))
    found = use.reduced("ReduceSum", products, -1, keepdims=False)
    found = use.add("Add", found, use.constant(np.float32(default)))
    return [use.add("Cast", found, to=kind)]


_EXACT = 2**24
"""Whole numbers up to here are exact in FP32."""


def _table(use: Use) -> tuple[NDArray[Any], NDArray[np.float64], float, int]:
    keys = use.attr("keys_int64s"), use.attr("keys_floats")
    values = use.attr("values_int64s"), use.attr("values_floats")
    if not any(keys) or not any(values):
        use.refuse("it maps text, or from or to it")
    whole_keys, whole_values = bool(keys[0]), bool(values[0])
    key_array = np.array(keys[0] or keys[1], np.int64 if whole_keys else np.float32)
    value_array = np.array(values[0] or values[1], np.float64)
    default = float(use.attr("default_int64", -1) if whole_values else use.attr("default_float", 0.0))
    if whole_values and np.abs([*value_array, default]).max() >= _EXACT:
        use.refuse("it maps to numbers of more than 24 bits")
    if np.isnan(key_array).any():
        use.refuse("NaN is among its keys")
    return key_array, value_array, default, TensorProto.INT64 if whole_values else TensorProto.FLOAT


def _extractor(use: Use) -> list[str]:
    """ArrayFeatureExtractor: chosen columns."""
    columns = use.constant_input(1)
    if columns is None:
        chosen = use.add("Reshape", use.node.input[1], use.constant(np.array([-1], np.int64)))
    else:
        chosen = use.constant(columns.reshape(-1).astype(np.int64))
    taken = use.add("Gather", use.node.input[0], chosen, axis=-1)
    if use.rank_of_input(0) == 1:
        taken = use.add("Unsqueeze", taken, use.constant(np.array([0], np.int64)))
    return [taken]


def _vectorizer(use: Use) -> list[str]:
    """FeatureVectorizer: columns side by side."""
    parts = [use.floating(index) for index in range(len(use.node.input))]
    return [use.add("Concat", *parts, axis=1)]


OPERATORS: Mapping[str, Rewrite] = {
    "ArrayFeatureExtractor": _extractor,
    "Binarizer": _binarizer,
    "FeatureVectorizer": _vectorizer,
    "Imputer": _imputer,
    "LabelEncoder": _label_encoder,
    "Normalizer": _normalizer,
    "OneHotEncoder": _one_hot,
    "Scaler": _scaler,
}
