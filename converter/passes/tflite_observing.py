"""Opens TFLite files to see what happens in them: each float tensor of a run, or what stops it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from converter.passes.tflite_layers import opened
from converter.recipe import Recipe
from edge_runtime.port import AnyArray

__all__ = ["observed", "refused_operator"]

_FAILED = re.compile(r"Node number \d+ \((\w+)\) failed to (?:prepare|invoke)")


def observed(
    content: bytes, recipe: Recipe, samples: Iterable[Mapping[str, AnyArray]]
) -> Iterator[dict[str, AnyArray]]:
    """The float tensors of each sample by name, the inputs' too; constants are left out."""
    # A delegate would compute whole parts of the graph without leaving what lies between.
    interpreter = Interpreter(
        model_content=content,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    details = interpreter.get_input_details()
    names = [plan.tensor.name for plan in recipe.inputs]
    kept = _made(content)
    shapes = None
    for sample in samples:
        given = [np.asarray(sample[name]) for name in names]
        if shapes != (shapes := [value.shape for value in given]):
            for detail, value in zip(details, given, strict=True):
                interpreter.resize_tensor_input(detail["index"], value.shape)
            interpreter.allocate_tensors()
        for detail, value in zip(details, given, strict=True):
            interpreter.set_tensor(detail["index"], value.astype(detail["dtype"]))
        interpreter.invoke()
        yield {name: interpreter.get_tensor(index) for index, name in kept.items()}


def refused_operator(content: bytes) -> str | None:
    """The kind of the operator because of which LiteRT does not run a file; None if it runs.

    Raises:
        RuntimeError: It does not, for another reason.
    """
    try:
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():  # what was there before may be no index of a table
            interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        found = _FAILED.search(str(error))
        if found is None:
            raise
        return found.group(1)
    return None


def _made(content: bytes) -> dict[int, str]:
    """The float tensors of the main graph that are given or computed, by index."""
    model = opened(content)
    graph = model.subgraphs[0]
    indices: list[Any] = [*graph.inputs, *(out for item in graph.operators for out in item.outputs)]
    return {
        int(index): graph.tensors[index].name.decode()
        for index in indices
        if graph.tensors[index].type == 0  # FLOAT32
    }
