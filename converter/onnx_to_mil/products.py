"""Matrix products: Gemm, MatMul and Einsum of up to two operands."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from converter.onnx_to_mil.node import Convert, Node, Value, dims, mb

__all__ = ["OPERATORS"]

_MATRIX = 2


def _gemm(node: Node) -> Value:
    left, right = node.var(0), node.var(1)
    alpha, beta = np.float32(node.attr("alpha", 1.0)), np.float32(node.attr("beta", 1.0))
    before, across = bool(node.attr("transA", 0)), bool(node.attr("transB", 0))
    if node.known(1) and node.known(2) and not before and _is_vector(dims(node.var(2))):
        # `linear` is what the Neural Engine has a kernel for; alpha and beta go into the weights.
        weight = node.constant(1, "weights").astype(np.float32) * alpha
        bias = node.constant(2, "bias").astype(np.float32).reshape(-1) * beta
        weight = np.ascontiguousarray(weight if across else weight.T)
        return mb.linear(
            x=left, weight=weight, bias=np.ascontiguousarray(np.broadcast_to(bias, weight.shape[:1]))
        )
    product = mb.matmul(x=left, y=right, transpose_x=before, transpose_y=across)
    if alpha != 1:
        product = mb.mul(x=product, y=alpha)
    if not node.has(2):
        return product
    bias = node.var(2)
    return mb.add(x=product, y=bias if beta == 1 else mb.mul(x=bias, y=beta))


def _is_vector(shape: tuple[int, ...]) -> bool:
    return len(shape) <= 1 or (len(shape) == _MATRIX and shape[0] == 1)


def _matmul(node: Node) -> Value:
    left, right = node.var(0), node.var(1)
    first, second = len(dims(left)) == 1, len(dims(right)) == 1
    if first:
        left = mb.reshape(x=left, shape=[1, -1])
    if second:
        right = mb.reshape(x=right, shape=[-1, 1])
    product = mb.matmul(x=left, y=right)
    dropped = ([-2] if first else []) + ([-1] if second else [])
    if not dropped:
        return product
    return mb.squeeze(x=product, axes=[len(dims(product)) + axis for axis in dropped])


def _einsum(node: Node) -> Value:
    terms, result = _terms(node)
    values = [_diagonal_free(node, node.var(index), term) for index, term in enumerate(terms)]
    if len(values) == 1:
        return _arranged(*_summed(values[0], terms[0], result), result)
    if len(values) != _MATRIX:
        node.refuse(f"{len(values)} operands")
    (left, a), (right, b) = (
        _summed(value, term, result + terms[1 - index])
        for index, (value, term) in enumerate(zip(values, terms, strict=True))
    )
    lengths = dict(zip(a + b, dims(left) + dims(right), strict=True))
    batch = [letter for letter in a if letter in b and letter in result]
    inner = [letter for letter in a if letter in b and letter not in result]
    rows, columns = [letter for letter in a if letter not in b], [letter for letter in b if letter not in a]
    left = _matrix(_arranged(left, a, [*batch, *rows, *inner]), lengths, (batch, rows, inner))
    right = _matrix(_arranged(right, b, [*batch, *inner, *columns]), lengths, (batch, inner, columns))
    made = [*batch, *rows, *columns]
    product = mb.matmul(x=left, y=right)
    product = mb.reshape(x=product, shape=[lengths[letter] for letter in made] or [1])
    if not made:
        return mb.squeeze(x=product, axes=[0])
    return _arranged(product, made, result)


def _terms(node: Node) -> tuple[list[list[str]], list[str]]:
    """The letters of each operand and of the result, those an ellipsis stands for as digits."""
    equation = node.attr("equation").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = []
    for index, term in enumerate(left.split(",")):
        hidden = len(dims(node.var(index))) - len(term.replace("...", ""))
        terms.append(list(term.replace("...", "".join(str(hidden - 1 - axis) for axis in range(hidden)))))
    if arrow:
        hidden = max((sum(letter.isdigit() for letter in term) for term in terms), default=0)
        result = list(right.replace("...", "".join(str(hidden - 1 - axis) for axis in range(hidden))))
    else:
        every = [letter for term in terms for letter in term]
        result = sorted({x for x in every if x.isdigit()}, reverse=True)
        result += sorted(letter for letter in set(every) if every.count(letter) == 1 and not letter.isdigit())
    return terms, result


def _diagonal_free(node: Node, value: Value, term: Sequence[str]) -> Value:
    if len(set(term)) != len(term):
        node.refuse("a letter twice in one operand")
    return value


def _summed(value: Value, term: Sequence[str], kept: Sequence[str]) -> tuple[Value, list[str]]:
    """Add up over letters nobody else has."""
    axes = [axis for axis, letter in enumerate(term) if letter not in kept]
    if axes:
        value = mb.reduce_sum(x=value, axes=axes, keep_dims=False)
    return value, [letter for letter in term if letter in kept]


def _arranged(value: Value, term: Sequence[str], wanted: Sequence[str]) -> Value:
    if list(term) == list(wanted):
        return mb.identity(x=value)
    return mb.transpose(x=value, perm=[list(term).index(letter) for letter in wanted])


def _matrix(value: Value, lengths: dict[str, int], groups: Sequence[Sequence[str]]) -> Value:
    return mb.reshape(x=value, shape=[math.prod(lengths[letter] for letter in group) for group in groups])


OPERATORS: dict[str, Convert] = {"Gemm": _gemm, "MatMul": _matmul, "Einsum": _einsum}
