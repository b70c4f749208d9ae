"""What TFLite files of ONNX models answer: `python -m tests.converter.tflite_answers FOLDER`.

The folder is described in `answering`. Answers come from LiteRT, in FP32. A process of its own, in which
TensorFlow is not to be found.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from converter.hidden import hide

for _name in ("tensorflow", "keras", "sklearn"):
    hide(_name)
logging.disable(logging.CRITICAL)

import torch  # noqa: E402
from ai_edge_litert.interpreter import Interpreter  # noqa: E402

from converter.onnx_to_torch.importing import GraphModule, module_of  # noqa: E402
from converter.passes.litert_file import tflite_of  # noqa: E402
from converter.passes.onnx_cleaning import folded, with_input_shapes  # noqa: E402
from converter.passes.onnx_to_tflite import built  # noqa: E402
from tests.converter.answering import answer_folder  # noqa: E402

__all__ = ["answers_of", "answers_of_several", "module_answers_of"]

torch.set_num_threads(1)  # a pool of threads does not come along into forks, which would wait for it


def answers_of(model: Any, inputs: Mapping[str, Any]) -> list[Any]:
    """Make the TFLite file of a model, and run it."""
    with_input_shapes(model, {name: array.shape for name, array in inputs.items()})
    return _answered(built(model), [inputs[item.name] for item in model.graph.input])


def answers_of_several(cases: Sequence[tuple[Any, Mapping[str, Any]]]) -> list[list[Any]]:
    """Make one TFLite file of several models, which is quicker than one of each, and run it."""
    modules, fed = [], []
    for model, inputs in cases:
        modules.append(_module_of(model, inputs))
        fed += [inputs[item.name] for item in model.graph.input]
    together = _Together(modules)
    rest = iter(_answered(tflite_of(together, together.example()), fed))
    return [[next(rest) for _ in model.graph.output] for model, _ in cases]


def module_answers_of(model: Any, inputs: Mapping[str, Any]) -> list[Any]:
    """Make the PyTorch module of a model, and run that, which takes no time."""
    module = _module_of(model, inputs)
    with torch.no_grad():
        outputs = module(*(torch.from_numpy(inputs[item.name].copy()) for item in model.graph.input))
    return [output.numpy() for output in outputs]


class _Together(torch.nn.Module):
    """Modules side by side: all inputs, all outputs."""

    def __init__(self, modules: Sequence[GraphModule]) -> None:
        super().__init__()
        self._parts = list(modules)
        self._registered = torch.nn.ModuleList(modules)
        self._counts = [len(module.example()) for module in modules]
        self.eval()

    def example(self) -> list[torch.Tensor]:
        return [tensor for module in self._parts for tensor in module.example()]

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs: list[torch.Tensor] = []
        rest = iter(inputs)
        for module, count in zip(self._parts, self._counts, strict=True):
            outputs += module(*(next(rest) for _ in range(count)))
        return tuple(outputs)


def _module_of(model: Any, inputs: Mapping[str, Any]) -> GraphModule:
    with_input_shapes(model, {name: array.shape for name, array in inputs.items()})
    return module_of(folded(model))


def _answered(content: bytes, inputs: Sequence[Any]) -> list[Any]:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


if __name__ == "__main__":
    answer_folder(Path(sys.argv[1]), answers_of)
