"""PyTorch → TFLite, FP32, through litert_torch; neither needs TensorFlow.

The file takes one sample in the recipe's layout. litert_torch 0.10 makes no file of any batch: its
lowering fails on a dynamic length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from converter.jobs import Job
from converter.passes.fixed_shapes import fixed_shape
from converter.passes.folding import computed_type
from converter.passes.litert_file import tflite_of
from converter.passes.signature import MatchedInput
from converter.passes.tflite_file import describe
from converter.passes.torch_source import TorchSource, module_of, open_torch
from converter.recipe import Recipe
from edge_runtime.preprocessing import affine_operands
from ota_contract.preprocessing_steps import Affine

__all__ = ["FILE", "run"]

FILE = "model.tflite"


def run(job: Job) -> Mapping[str, Any]:
    """Write `model.tflite`; the facts describe it, and tell the source's digest."""
    recipe = job.recipe()
    source = open_torch(job, recipe)
    content = tflite_of(_Served(source), [_example(item, recipe) for item in source.matched.inputs])
    (job.out / FILE).write_bytes(content)
    names = [item.plan.tensor.name for item in source.matched.inputs]
    facts = describe(content, names, [tensor.name for tensor, _ in source.matched.outputs])
    return {**facts, "source_sha256": source.sha256}


class _Served(torch.nn.Module):
    """The program behind the converter's preprocessing steps and the change of layout."""

    def __init__(self, source: TorchSource) -> None:
        super().__init__()
        self.training = False
        self._inner = module_of(source)
        self._inputs = source.matched.inputs

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        fed = [_front(item, tensor) for item, tensor in zip(self._inputs, tensors, strict=True)]
        results: tuple[torch.Tensor, ...] = self._inner(*fed)
        return results


def _front(item: MatchedInput, tensor: torch.Tensor) -> torch.Tensor:
    plan, dtype = item.plan, np.dtype(item.plan.tensor.datatype.dtype)
    for step in plan.converter_steps:
        dtype = computed_type(step, dtype, plan.tensor.name)
        tensor = tensor.to(_torch_type(dtype))
        if isinstance(step, Affine):
            scale, offset = (torch.from_numpy(operand) for operand in affine_operands(step))
            tensor = tensor * scale + offset
    if item.permutation:
        tensor = tensor.permute(item.permutation)
    return tensor.to(_torch_type(item.dtype))


def _example(item: MatchedInput, recipe: Recipe) -> torch.Tensor:
    tensor = item.plan.tensor
    shape = fixed_shape(tensor, recipe, "a TFLite variant of a PyTorch program")
    return torch.zeros(shape, dtype=_torch_type(tensor.datatype.dtype))


def _torch_type(dtype: Any) -> torch.dtype:  # noqa: ANN401 - what numpy takes for a type
    return torch.from_numpy(np.empty(0, dtype)).dtype
