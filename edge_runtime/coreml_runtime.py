"""Core ML behind the port; it runs on macOS alone."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import InferenceError, ModelLoadError, RuntimeNotInstalledError
from edge_runtime.port import AnyArray
from ota_contract.manifest import Release, Variant

__all__ = ["CoremlModel", "load"]

_IMAGE_RANK = 4


class CoremlModel:
    """One compiled mlpackage."""

    accelerator = "all"  # Core ML chooses CPU, GPU or Neural Engine itself and does not say which

    def __init__(self, model: Any, variant: Variant) -> None:  # noqa: ANN401 - coremltools is untyped
        """Wrap an `MLModel` whose feature names the variant's bindings give."""
        spec = model.get_spec()
        self._model = model
        self._images = {
            feature.name
            for feature in spec.description.input
            if feature.type.WhichOneof("Type") == "imageType"
        }
        self._inputs = {binding.name: binding.inner for binding in variant.inputs}
        self._outputs = {binding.name: binding.inner for binding in variant.outputs}

    def run(self, inputs: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """See `LoadedModel.run`."""
        features = {inner: self._feature(inner, inputs[name]) for name, inner in self._inputs.items()}
        try:
            results = self._model.predict(features)
        except (RuntimeError, ValueError, TypeError) as error:
            raise InferenceError(f"coreml: {str(error).strip()[:300]}") from error
        return {name: np.asarray(results[inner], dtype=np.float32) for name, inner in self._outputs.items()}

    def close(self) -> None:
        """Drop the model."""
        del self._model

    def _feature(self, inner: str, array: AnyArray) -> Any:  # noqa: ANN401
        if inner not in self._images:
            return array
        from PIL import Image  # noqa: PLC0415 - only image inputs on macOS need it

        if array.ndim != _IMAGE_RANK or array.shape[0] != 1:
            raise InferenceError("coreml: an image input takes one NHWC image")
        return Image.fromarray(array[0, :, :, 0] if array.shape[3] == 1 else array[0])


def load(release: Release, variant: Variant, folder: Path, threads: int) -> CoremlModel:
    """Open a variant; see `edge_runtime.loading.load`."""
    del release, threads
    if platform.system() != "Darwin":
        raise RuntimeNotInstalledError("Core ML models run on macOS only")
    import coremltools  # noqa: PLC0415 - takes seconds where TensorFlow is installed, too

    package = (folder / variant.model_file.path).parent
    try:
        return CoremlModel(coremltools.models.MLModel(str(package)), variant)
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelLoadError(f"coreml cannot open {package.name}: {str(error)[:300]}") from error
