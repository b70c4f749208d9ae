"""Operators that work element by element: arithmetic, comparison, logic, casts."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
import torch
from onnx import TensorProto

from converter.onnx_importing.node import FLOATS, type_name
from converter.onnx_importing.quantization import RANGES
from converter.onnx_to_torch.node import Convert, Node, is_bool, is_float

__all__ = ["OPERATORS"]

_Unary = Callable[[torch.Tensor], torch.Tensor]
_Binary = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_WIDE = (TensorProto.INT32, TensorProto.INT64)


def _unary(make: _Unary) -> Convert:
    def convert(node: Node) -> torch.Tensor:
        return make(node.tensor(0))

    return convert


def _binary(make: _Binary) -> Convert:
    def convert(node: Node) -> torch.Tensor:
        return make(node.tensor(0), node.tensor(1))

    return convert


def _variadic(make: _Binary) -> Convert:
    def convert(node: Node) -> torch.Tensor:
        return reduce(make, [node.tensor(index) for index in range(len(node))])

    return convert


def _mean(node: Node) -> torch.Tensor:
    total: torch.Tensor = reduce(torch.add, [node.tensor(index) for index in range(len(node))])
    return total * (1 / len(node))


def _div(node: Node) -> torch.Tensor:
    left, right = node.tensor(0), node.tensor(1)
    return left / right if is_float(left) else torch.div(left, right, rounding_mode="trunc")


def _mod(node: Node) -> torch.Tensor:
    left, right = node.tensor(0), node.tensor(1)
    if not node.attr("fmod", 0):
        return torch.remainder(left, right)
    return torch.fmod(left, right)


def _pow(node: Node) -> torch.Tensor:
    base, exponent = node.tensor(0), node.tensor(1)
    if not is_float(base):
        node.refuse("a base of whole numbers")
    if node.known(1) and node.constant(1, "exponent").size == 1:
        power = float(node.constant(1, "exponent").reshape(()))
        if power == 2 and exponent.ndim <= base.ndim:  # noqa: PLR2004 - a square
            return (base * base).expand(np.broadcast_shapes(tuple(base.shape), tuple(exponent.shape)))
    return torch.pow(base, exponent.to(torch.float32))


def _where(node: Node) -> torch.Tensor:
    return torch.where(node.tensor(0), node.tensor(1), node.tensor(2))


def _compared(make: _Binary) -> Convert:
    def convert(node: Node) -> torch.Tensor:
        left, right = node.tensor(0), node.tensor(1)
        if is_bool(left):
            left, right = left.to(torch.int32), right.to(torch.int32)
        return make(left, right)

    return convert


def _clip(node: Node) -> torch.Tensor:
    x = node.tensor(0)
    low, high = (_bound(node, index, x) if node.has(index) else None for index in (1, 2))
    if not isinstance(low, torch.Tensor) and not isinstance(high, torch.Tensor):
        if low is not None and high is not None and low > high:  # then every answer is the upper bound
            low = high
        return x if low is None and high is None else torch.clamp(x, low, high)
    if low is not None:
        x = torch.maximum(x, torch.as_tensor(low, dtype=x.dtype))
    return x if high is None else torch.minimum(x, torch.as_tensor(high, dtype=x.dtype))


def _bound(node: Node, index: int, x: torch.Tensor) -> float | torch.Tensor | None:
    """A bound as a number where it is known, None where it is none."""
    if not node.known(index):
        return node.tensor(index)
    value = node.constant(index, "bounds").reshape(()).item()
    if is_float(x):
        return None if value in (float("inf"), float("-inf")) else float(value)
    return int(value)


def _cast(node: Node) -> torch.Tensor:
    return _to(node, node.attr("to"))


def _cast_like(node: Node) -> torch.Tensor:
    return _to(node, node.stated[0].elem_type)


def _to(node: Node, wanted: int) -> torch.Tensor:
    x = node.tensor(0)
    if wanted in FLOATS:
        return x.to(torch.float32)
    if wanted == TensorProto.BOOL:
        return x if is_bool(x) else torch.ne(x, 0)
    if wanted in _WIDE:
        return x.to(torch.int32)
    if wanted in RANGES and (is_float(x) or is_bool(x)):  # out of range is undefined in ONNX, too
        return x.to(torch.int32)
    return node.refuse(f"to {type_name(wanted)}")


def _is_inf(node: Node) -> torch.Tensor:
    x = node.tensor(0)
    up, down = node.attr("detect_positive", 1), node.attr("detect_negative", 1)
    if up and down:
        return torch.eq(torch.abs(x), float("inf"))
    if not up and not down:
        return torch.lt(torch.abs(x), 0.0)
    return torch.eq(x, float("inf") if up else float("-inf"))


def _sinh(x: torch.Tensor) -> torch.Tensor:
    return (torch.exp(x) - torch.exp(-x)) * 0.5


def _cosh(x: torch.Tensor) -> torch.Tensor:
    return (torch.exp(x) + torch.exp(-x)) * 0.5


def _asinh(x: torch.Tensor) -> torch.Tensor:
    # By magnitude and sign: x + √(x²+1) cancels where x is negative.
    size = torch.abs(x)
    return torch.sign(x) * torch.log(size + torch.sqrt(x * x + 1.0))


def _acosh(x: torch.Tensor) -> torch.Tensor:
    return torch.log(x + torch.sqrt(x * x - 1.0))


def _atanh(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * torch.log((1.0 + x) / (1.0 - x))


def _identity(node: Node) -> torch.Tensor:
    return node.tensor(0)


OPERATORS: dict[str, Convert] = {
    "Add": _binary(torch.add), "Sub": _binary(torch.sub), "Mul": _binary(torch.mul), "Div": _div, "Mod": _mod,
    "Pow": _pow, "Max": _variadic(torch.maximum), "Min": _variadic(torch.minimum),
    "Sum": _variadic(torch.add), "Mean": _mean, "And": _binary(torch.logical_and),
    "Or": _binary(torch.logical_or), "Xor": _compared(torch.ne), "Not": _unary(torch.logical_not),
    "Equal": _compared(torch.eq), "Greater": _compared(torch.gt), "GreaterOrEqual": _compared(torch.ge),
    "Less": _compared(torch.lt), "LessOrEqual": _compared(torch.le), "Where": _where,
    "Abs": _unary(torch.abs), "Neg": _unary(torch.neg), "Exp": _unary(torch.exp), "Log": _unary(torch.log),
    "Sqrt": _unary(torch.sqrt), "Reciprocal": _unary(torch.reciprocal), "Sin": _unary(torch.sin),
    "Cos": _unary(torch.cos), "Tan": _unary(torch.tan), "Asin": _unary(torch.asin),
    "Acos": _unary(torch.acos), "Atan": _unary(torch.atan), "Sinh": _unary(_sinh), "Cosh": _unary(_cosh),
    "Asinh": _unary(_asinh), "Acosh": _unary(_acosh), "Atanh": _unary(_atanh), "Erf": _unary(torch.erf),
    "Floor": _unary(torch.floor), "Ceil": _unary(torch.ceil), "Round": _unary(torch.round),
    "Sign": _unary(torch.sign), "Clip": _clip, "Cast": _cast, "CastLike": _cast_like,
    "IsNaN": _unary(lambda x: torch.ne(x, x)), "IsInf": _is_inf, "Identity": _identity,
}  # fmt: skip
