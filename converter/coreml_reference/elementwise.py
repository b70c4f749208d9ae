"""Operations on every element alone: arithmetic, comparison, choice."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from converter.coreml_reference.arguments import Arguments, Compute
from converter.coreml_reference.datatypes import Array

__all__ = ["OPERATIONS", "erf"]

_erf = np.frompyfunc(math.erf, 1, 1)


def erf(x: Array) -> Array:
    """The error function; numpy has none."""
    return np.asarray(_erf(x), dtype=np.float64)


def _of_x(function: Callable[[Array], Array]) -> Compute:
    return lambda a: function(a["x"])


def _of_x_y(function: Callable[[Array, Array], Array]) -> Compute:
    return lambda a: function(a["x"], a["y"])


def _truth(function: Callable[[Array, Array], Array]) -> Compute:
    return lambda a: function(a["x"].astype(bool), a["y"].astype(bool))


def _clip(a: Arguments) -> Array:
    return np.minimum(np.maximum(a["x"], a["alpha"]), a["beta"])


def _select(a: Arguments) -> Array:
    return np.where(a["cond"].astype(bool), a["a"], a["b"])


def _power(x: Array, y: Array) -> Array:
    if x.dtype.kind == "i" and y.dtype.kind == "i":
        return np.power(x.astype(np.float64), y)  # numpy refuses negative whole exponents
    return np.power(x, y)


def _cast(a: Arguments) -> Array:
    x = a["x"]
    # Toward zero; the evaluator then narrows to the type the program declares.
    return np.trunc(x) if x.dtype.kind == "f" and "int" in a.text("dtype") else x


OPERATIONS: Mapping[str, Compute] = {
    "abs": _of_x(np.abs),
    "acos": _of_x(np.arccos),
    "asin": _of_x(np.arcsin),
    "atan": _of_x(np.arctan),
    "atanh": _of_x(np.arctanh),
    "cast": _cast,
    "ceil": _of_x(np.ceil),
    "clip": _clip,
    "cos": _of_x(np.cos),
    "cosh": _of_x(np.cosh),
    "erf": _of_x(erf),
    "exp": _of_x(np.exp),
    "exp2": _of_x(np.exp2),
    "floor": _of_x(np.floor),
    "identity": _of_x(lambda x: x),
    "inverse": lambda a: 1.0 / (a["x"] + a.number("epsilon", 1e-4)),
    "log": lambda a: np.log(a["x"] + a.number("epsilon", 1e-45)),
    "logical_not": _of_x(lambda x: ~x.astype(bool)),
    "round": _of_x(np.rint),
    "rsqrt": lambda a: 1.0 / np.sqrt(a["x"] + a.number("epsilon", 1e-12)),
    "sign": _of_x(np.sign),
    "sin": _of_x(np.sin),
    "sinh": _of_x(np.sinh),
    "sqrt": _of_x(np.sqrt),
    "square": _of_x(np.square),
    "tan": _of_x(np.tan),
    "tanh": _of_x(np.tanh),
    "threshold": lambda a: np.maximum(a["x"], a["alpha"]),
    "add": _of_x_y(np.add),
    "sub": _of_x_y(np.subtract),
    "mul": _of_x_y(np.multiply),
    "real_div": _of_x_y(np.true_divide),
    "floor_div": _of_x_y(np.floor_divide),
    "mod": _of_x_y(np.mod),
    "pow": _of_x_y(_power),
    "maximum": _of_x_y(np.maximum),
    "minimum": _of_x_y(np.minimum),
    "equal": _of_x_y(np.equal),
    "not_equal": _of_x_y(np.not_equal),
    "greater": _of_x_y(np.greater),
    "greater_equal": _of_x_y(np.greater_equal),
    "less": _of_x_y(np.less),
    "less_equal": _of_x_y(np.less_equal),
    "logical_and": _truth(np.logical_and),
    "logical_or": _truth(np.logical_or),
    "logical_xor": _truth(np.logical_xor),
    "select": _select,
}
