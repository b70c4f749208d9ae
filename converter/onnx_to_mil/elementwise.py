"""Operators that work element by element: arithmetic, comparison, logic, casts."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
from onnx import TensorProto

from converter.onnx_importing.node import FLOATS, type_name
from converter.onnx_importing.quantization import RANGES
from converter.onnx_to_mil.node import Convert, Node, Value, as_constant, dims, is_bool, is_float, mb

__all__ = ["OPERATORS", "broadcast"]

_Binary = Callable[..., Value]
_WIDE = (TensorProto.INT32, TensorProto.INT64)


def broadcast(value: Value, shape: tuple[int, ...]) -> Value:
    """Repeat a value up to a shape, by the rules of numpy."""
    if isinstance(value, (np.ndarray, np.generic)):
        return as_constant(np.ascontiguousarray(np.broadcast_to(value, shape)))
    own = dims(value)
    if len(own) < len(shape):
        value = mb.reshape(x=value, shape=[1] * (len(shape) - len(own)) + list(own))
    own = (1,) * (len(shape) - len(own)) + own
    reps = [wanted if length == 1 else 1 for length, wanted in zip(own, shape, strict=True)]
    return mb.tile(x=value, reps=reps) if any(count > 1 for count in reps) else value


def _binary(make: str) -> Convert:
    def convert(node: Node) -> Value:
        return getattr(mb, make)(x=node.var(0), y=node.var(1))

    return convert


def _unary(make: str) -> Convert:
    def convert(node: Node) -> Value:
        return getattr(mb, make)(x=node.var(0))

    return convert


def _variadic(make: str) -> Convert:
    def convert(node: Node) -> Value:
        values = [node.var(index) for index in range(len(node))]
        if len(values) == 1:
            return mb.identity(x=values[0])
        return reduce(lambda left, right: getattr(mb, make)(x=left, y=right), values)

    return convert


def _mean(node: Node) -> Value:
    total = _variadic("add")(node)
    return mb.mul(x=total, y=np.float32(1 / len(node)))


def _div(node: Node) -> Value:
    left, right = node.var(0), node.var(1)
    if is_float(left):
        return mb.real_div(x=left, y=right)
    # ONNX rounds towards zero, floor_div down: divide the magnitudes, and give the sign back.
    size = mb.floor_div(x=mb.abs(x=left), y=mb.abs(x=right))
    return mb.mul(x=size, y=mb.mul(x=mb.sign(x=left), y=mb.sign(x=right)))


def _mod(node: Node) -> Value:
    left, right = node.var(0), node.var(1)
    if not node.attr("fmod", 0):
        return mb.mod(x=left, y=right)
    rest = mb.mod(x=mb.abs(x=left), y=mb.abs(x=right))
    return mb.mul(x=mb.sign(x=left), y=rest)


def _pow(node: Node) -> Value:
    base, exponent = node.var(0), node.var(1)
    if not is_float(base):
        node.refuse("a base of whole numbers")
    if not is_float(exponent):
        exponent = mb.cast(x=exponent, dtype="fp32")
    return mb.pow(x=base, y=exponent)


def _where(node: Node) -> Value:
    condition, left, right = node.var(0), node.var(1), node.var(2)
    shape = np.broadcast_shapes(dims(condition), dims(left), dims(right))
    return mb.select(cond=broadcast(condition, shape), a=broadcast(left, shape), b=broadcast(right, shape))


def _neg(node: Node) -> Value:
    x = node.var(0)
    return mb.mul(x=x, y=np.float32(-1) if is_float(x) else np.int32(-1))


def _reciprocal(node: Node) -> Value:
    return mb.real_div(x=np.float32(1), y=node.var(0))  # `inverse` adds an epsilon


def _asinh(node: Node) -> Value:
    x = node.var(0)
    # By magnitude and sign: x + √(x²+1) cancels where x is negative.
    size = mb.abs(x=x)
    root = mb.sqrt(x=mb.add(x=mb.mul(x=x, y=x), y=np.float32(1)))
    return mb.mul(x=mb.sign(x=x), y=mb.log(x=mb.add(x=size, y=root)))


def _acosh(node: Node) -> Value:
    x = node.var(0)
    root = mb.sqrt(x=mb.sub(x=mb.mul(x=x, y=x), y=np.float32(1)))
    return mb.log(x=mb.add(x=x, y=root))


def _compared(make: str) -> Convert:
    def convert(node: Node) -> Value:
        left, right = node.var(0), node.var(1)
        if is_bool(left):
            left, right = mb.cast(x=left, dtype="int32"), mb.cast(x=right, dtype="int32")
        return getattr(mb, make)(x=left, y=right)

    return convert


def _clip(node: Node) -> Value:
    x = node.var(0)
    for index, make in ((1, mb.maximum), (2, mb.minimum)):
        if node.has(index):
            bound = node.var(index)
            if node.known(index) and is_float(x) and np.isinf(node.constant(index, "bounds")).all():
                continue
            x = make(x=x, y=bound)
    return mb.identity(x=x) if x is node.var(0) else x


def _cast(node: Node) -> Value:
    return _to(node, node.attr("to"))


def _cast_like(node: Node) -> Value:
    return _to(node, node.stated[0].elem_type)


def _to(node: Node, wanted: int) -> Value:
    x = node.var(0)
    if wanted in FLOATS:
        return mb.identity(x=x) if is_float(x) else mb.cast(x=x, dtype="fp32")
    if wanted == TensorProto.BOOL:
        return (
            mb.identity(x=x)
            if is_bool(x)
            else mb.not_equal(x=x, y=np.float32(0) if is_float(x) else np.int32(0))
        )
    if wanted in _WIDE:
        return mb.cast(x=x, dtype="int32") if is_float(x) or is_bool(x) else mb.identity(x=x)
    if wanted in RANGES and (is_float(x) or is_bool(x)):  # out of range is undefined in ONNX, too
        return mb.cast(x=x, dtype="int32")
    return node.refuse(f"to {type_name(wanted)}")


def _is_nan(node: Node) -> Value:
    x = node.var(0)
    return mb.not_equal(x=x, y=x)


def _is_inf(node: Node) -> Value:
    x = node.var(0)
    up, down = node.attr("detect_positive", 1), node.attr("detect_negative", 1)
    if up and down:
        return mb.equal(x=mb.abs(x=x), y=np.float32(np.inf))
    if not up and not down:
        return mb.less(x=mb.abs(x=x), y=np.float32(0))
    return mb.equal(x=x, y=np.float32(np.inf if up else -np.inf))


OPERATORS: dict[str, Convert] = {
    "Add": _binary("add"), "Sub": _binary("sub"), "Mul": _binary("mul"), "Div": _div, "Mod": _mod,
    "Pow": _pow, "Max": _variadic("maximum"), "Min": _variadic("minimum"),
    "Sum": _variadic("add"), "Mean": _mean, "And": _binary("logical_and"), "Or": _binary("logical_or"),
    "Xor": _binary("logical_xor"), "Not": _unary("logical_not"), "Equal": _compared("equal"),
    "Greater": _compared("greater"), "GreaterOrEqual": _compared("greater_equal"), "Less": _compared("less"),
    "LessOrEqual": _compared("less_equal"), "Where": _where, "Abs": _unary("abs"), "Neg": _neg,
    "Exp": _unary("exp"), "Log": _unary("log"), "Sqrt": _unary("sqrt"), "Reciprocal": _reciprocal,
    "Sin": _unary("sin"), "Cos": _unary("cos"), "Tan": _unary("tan"), "Asin": _unary("asin"),
    "Acos": _unary("acos"), "Atan": _unary("atan"), "Sinh": _unary("sinh"), "Cosh": _unary("cosh"),
    "Asinh": _asinh, "Acosh": _acosh, "Atanh": _unary("atanh"), "Erf": _unary("erf"),
    "Floor": _unary("floor"), "Ceil": _unary("ceil"), "Round": _unary("round"), "Sign": _unary("sign"),
    "Clip": _clip, "Cast": _cast, "CastLike": _cast_like, "IsNaN": _is_nan, "IsInf": _is_inf,
    "Identity": _unary("identity"),
}  # fmt: skip
