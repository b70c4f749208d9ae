"""One operator of `ai.onnx.ml`, and the nodes that are written in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from converter.errors import OperatorRefusedError
from converter.passes.onnx_graphs import attribute_of

__all__ = ["DOMAIN", "Rewrite", "Use", "labelled", "transformed"]

DOMAIN = "ai.onnx.ml"

_AXES_INPUT = 18
"""From this opset on all reductions take their axes as an input; ReduceSum since 13."""


class Use:
    """An operator in its graph. Its rewriting names a tensor for every output that is read."""

    def __init__(
        self,
        node: Any,  # noqa: ANN401 - onnx publishes no types
        *,
        number: int,
        opset: int,
        constants: Mapping[str, Any],
        ranks: Mapping[str, int],
        read: set[str],
    ) -> None:
        """Hold an operator.

        Args:
            node: The operator.
            number: Its place, for names that nothing else has.
            opset: Of `ai.onnx` in this model.
            constants: Arrays of the tensors that are known.
            ranks: How many axes tensors have, as far as is known.
            read: The names something reads.
        """
        self.node = node
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self._prefix = f"ml/{number}/"
        self._opset = opset
        self._constants = constants
        self._ranks = ranks
        self._read = read

    def attr(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """An attribute; text decoded."""
        value = attribute_of(self.node, name, default)
        return value.decode() if isinstance(value, bytes) else value

    def floats(self, name: str) -> Any:  # noqa: ANN401
        """An attribute of numbers as an FP32 array, empty where it is missing."""
        return np.asarray(self.attr(name, ()), dtype=np.float32)

    def wanted(self, index: int) -> bool:
        """Whether anything reads an output."""
        return index < len(self.node.output) and self.node.output[index] in self._read

    def constant_input(self, index: int) -> Any | None:  # noqa: ANN401
        """The array of an input, where it is known."""
        return self._constants.get(self.node.input[index])

    def rank_of_input(self, index: int) -> int | None:
        """How many axes an input has, where that is known."""
        return self._ranks.get(self.node.input[index])

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401
        """Write an operator of one output; returns its name."""
        made = f"{self._prefix}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [made], **attributes))
        return made

    def constant(self, value: Any) -> str:  # noqa: ANN401
        """Write an array; returns its name."""
        name = f"{self._prefix}w{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def floating(self, index: int = 0) -> str:
        """An input as FP32: the operators of `ai.onnx.ml` take whole numbers and doubles, too."""
        return self.add("Cast", self.node.input[index], to=TensorProto.FLOAT)

    def reduced(self, operator: str, tensor: str, axis: int, *, keepdims: bool) -> str:
        """Write a reduction over one axis, as this model's opset spells it."""
        if operator == "ReduceSum" or self._opset >= _AXES_INPUT:
            axes = self.constant(np.array([axis], np.int64))
            return self.add(operator, tensor, axes, keepdims=int(keepdims))
        return self.add(operator, tensor, axes=[axis], keepdims=int(keepdims))

    def refuse(self, why: str) -> NoReturn:
        """Stop: there is no rewriting of this use.

        Raises:
            OperatorRefusedError: Always.
        """
        name = self.node.name or next(iter(self.node.output), "")
        raise OperatorRefusedError(f"op {DOMAIN}.{self.node.op_type} ({name}): {why}")


Rewrite = Callable[[Use], list[str]]
"""Writes an operator's replacement; returns a name for every output, empty for those nobody reads."""


def transformed(use: Use, scores: str) -> str:
    """Scores after the operator's `post_transform`."""
    kind = use.attr("post_transform", "NONE")
    if kind == "SOFTMAX":
        return use.add("Softmax", scores, axis=-1)
    if kind == "LOGISTIC":
        return use.add("Sigmoid", scores)
    if kind != "NONE":
        use.refuse(f"post_transform {kind}")
    return scores


def labelled(use: Use, scores: str) -> str:
    """The class of greatest score, where something reads it."""
    if not use.wanted(0):
        return ""
    labels = use.attr("classlabels_int64s") or use.attr("classlabels_ints")
    if not labels:
        use.refuse("its classes are text; leave them out, `labels` of the recipe names them")
    best = use.add("ArgMax", scores, axis=-1, keepdims=0)
    return use.add("Gather", use.constant(np.array(labels, np.int64)), best)
