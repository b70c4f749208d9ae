"""Takes ZipMap away, which makes a list of dictionaries out of the scores at the end of skl2onnx's graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from converter.onnx_ml.emitting import DOMAIN
from converter.passes.onnx_graphs import attribute_of

__all__ = ["Labels", "unzipped", "without_zipmaps"]

Labels = tuple[int | str, ...]


def without_zipmaps(model: Any) -> dict[str, Labels]:  # noqa: ANN401 - onnx publishes no types
    """Let the outputs be the scores themselves, in place; returns the keys they had, by output, in order."""
    found: dict[str, Labels] = {}
    for node in model.graph.node:
        if node.domain != DOMAIN or node.op_type != "ZipMap":
            continue
        texts = attribute_of(node, "classlabels_strings", [])
        whole = attribute_of(node, "classlabels_int64s", [])
        found[node.output[0]] = (*whole, *(text.decode() for text in texts))
        scores = helper.make_node("Identity", list(node.input), list(node.output), name=node.name)
        node.CopyFrom(scores)
    for item in model.graph.output:
        if item.name in found:
            item.CopyFrom(helper.make_tensor_value_info(item.name, TensorProto.FLOAT, None))
    return found


def unzipped(rows: list[Mapping[int | str, float]], labels: Labels) -> NDArray[np.float32]:
    """The scores of ONNX Runtime's dictionaries, [samples, classes]."""
    return np.array([[row[label] for label in labels] for row in rows], np.float32)
