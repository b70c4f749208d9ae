"""ONNX Runtime behind the port."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnxruntime

from edge_runtime.errors import InferenceError, ModelLoadError
from edge_runtime.port import AnyArray
from ota_contract.manifest import Release, Variant

__all__ = ["OnnxModel", "load"]

_FATAL = 4


class OnnxModel:
    """One `InferenceSession`; ONNX Runtime lets threads share it."""

    accelerator = "cpu"

    def __init__(self, session: onnxruntime.InferenceSession, variant: Variant) -> None:
        """Wrap a session whose tensor names the variant's bindings give."""
        self._run = session.run
        self._inputs = {binding.name: binding.inner for binding in variant.inputs}
        self._outputs = tuple(binding.name for binding in variant.outputs)
        self._inner_outputs = [binding.inner for binding in variant.outputs]

    def run(self, inputs: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """See `LoadedModel.run`."""
        names = self._inputs
        try:
            results = self._run(self._inner_outputs, {names[key]: inputs[key] for key in inputs})
        except Exception as error:  # onnxruntime's own classes derive from Exception alone
            raise InferenceError(f"onnxruntime: {_first_line(error)}") from error
        return dict(zip(self._outputs, results, strict=True))

    def close(self) -> None:
        """Drop the session; its memory goes with the last running call."""
        del self._run


def load(release: Release, variant: Variant, folder: Path, threads: int) -> OnnxModel:
    """Open a variant; see `edge_runtime.loading.load`."""
    del release
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL  # failures reach the caller as errors, not on stderr
    # A spinning thread pool costs an edge device a core while the model idles.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = folder / variant.model_file.path
    try:
        session = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ModelLoadError(f"onnxruntime cannot open {path.name}: {_first_line(error)}") from error
    known = {node.name for node in (*session.get_inputs(), *session.get_outputs())}
    for binding in (*variant.inputs, *variant.outputs):
        if binding.inner not in known:
            raise ModelLoadError(f"{path.name} has no tensor named {binding.inner!r}")
    return OnnxModel(session, variant)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
