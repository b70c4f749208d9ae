"""LiteRT (TensorFlow Lite) behind the port."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edge_runtime.errors import InferenceError, ModelLoadError
from edge_runtime.port import AnyArray
from ota_contract.manifest import Release, Variant

__all__ = ["TfliteModel", "load"]


class TfliteModel:
    """One interpreter under a lock: an interpreter holds its tensors and cannot run twice at once."""

    accelerator = "cpu"

    def __init__(self, interpreter: Interpreter, variant: Variant) -> None:
        """Wrap an allocated interpreter whose tensor names the variant's bindings give."""
        inputs = {detail["name"]: detail for detail in interpreter.get_input_details()}
        outputs = {detail["name"]: detail for detail in interpreter.get_output_details()}
        self._interpreter = interpreter
        self._lock = threading.Lock()
        self._inputs = {
            binding.name: (inputs[binding.inner]["index"], tuple(inputs[binding.inner]["shape"]))
            for binding in variant.inputs
        }
        self._single = all(_takes_one(inputs[binding.inner]) for binding in variant.inputs)
        self._outputs = tuple((binding.name, outputs[binding.inner]["index"]) for binding in variant.outputs)

    def run(self, inputs: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """See `LoadedModel.run`; another batch size resizes the interpreter, or asks it sample by sample."""
        with self._lock:
            try:
                if self._single and (rows := len(inputs[next(iter(self._inputs))])) > 1:
                    return self._one_by_one(inputs, rows)
                return self._answers(inputs)
            except KeyError as error:
                raise InferenceError(f"tflite: there is no input {error}") from error
            except AttributeError as error:
                raise InferenceError("tflite: the model is closed") from error
            except (RuntimeError, ValueError) as error:
                raise InferenceError(f"tflite: {_latest(error)}") from error

    def close(self) -> None:
        """Drop the interpreter; its memory goes with the last running call."""
        del self._interpreter

    def _one_by_one(self, inputs: Mapping[str, AnyArray], rows: int) -> dict[str, AnyArray]:
        """A batch, where the file's graph is written out for one sample and cannot be resized."""
        answers = [
            self._answers({name: inputs[name][row : row + 1] for name in self._inputs}) for row in range(rows)
        ]
        return {name: np.concatenate([answer[name] for answer in answers]) for name, _ in self._outputs}

    def _answers(self, inputs: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        interpreter = self._interpreter
        self._fit(inputs)
        for name, (index, _) in self._inputs.items():
            interpreter.set_tensor(index, inputs[name])
        interpreter.invoke()
        return {name: interpreter.get_tensor(index) for name, index in self._outputs}

    def _fit(self, inputs: Mapping[str, AnyArray]) -> None:
        resized = False
        for name, (index, shape) in self._inputs.items():
            wanted = inputs[name].shape
            if wanted != shape:
                self._interpreter.resize_tensor_input(index, wanted)
                self._inputs[name] = (index, wanted)
                resized = True
        if resized:
            self._interpreter.allocate_tensors()


def load(release: Release, variant: Variant, folder: Path, threads: int) -> TfliteModel:
    """Open a variant; see `edge_runtime.loading.load`."""
    del release
    path = folder / variant.model_file.path
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
        return TfliteModel(interpreter, variant)
    except (RuntimeError, ValueError) as error:
        raise ModelLoadError(f"tflite cannot open {path.name}: {str(error).strip()[:300]}") from error
    except KeyError as error:
        raise ModelLoadError(f"{path.name} has no tensor named {error}") from error


def _takes_one(detail: Mapping[str, Any]) -> bool:
    """Whether an input is of one sample, and the file does not say that it may be of more."""
    return tuple(detail["shape"])[:1] == (1,) and all(length > 0 for length in detail["shape_signature"])


def _latest(error: Exception) -> str:
    """What this call failed of: LiteRT's text begins with every failure of the interpreter before it."""
    return " ".join(str(error).strip().splitlines()[-2:])[-300:]
