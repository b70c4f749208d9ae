"""Opens a variant with the runtime it names."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from edge_runtime.errors import ModelLoadError, RuntimeNotInstalledError
from edge_runtime.port import LoadedModel, Loader
from ota_contract.manifest import Release, Runtime, Variant

__all__ = ["load"]

_MODULES: Mapping[Runtime, str] = {
    Runtime.ONNX: "edge_runtime.onnx_runtime",
    Runtime.TFLITE: "edge_runtime.tflite_runtime",
    Runtime.COREML: "edge_runtime.coreml_runtime",
}


def load(release: Release, variant: Variant, folder: Path, *, threads: int = 1) -> LoadedModel:
    """Open a variant, importing only its own runtime.

    Args:
        release: The release the variant belongs to.
        variant: What to open.
        folder: What the manifest's file paths are relative to; the files must be verified already.
        threads: Threads one inference may use.

    Raises:
        RuntimeNotInstalledError: The runtime is not importable here.
        ModelLoadError: The files are missing, or the runtime refuses them.
    """
    path = folder / variant.model_file.path
    if not path.is_file():
        raise ModelLoadError(f"{release.name} {release.version}: {variant.model_file.path} is missing")
    return _loader(variant.runtime)(release, variant, folder, threads)


def _loader(runtime: Runtime) -> Loader:
    try:
        loader: Loader = importlib.import_module(_MODULES[runtime]).load
    except ImportError as error:
        raise RuntimeNotInstalledError(
            f"runtime {runtime.value} is not installed: pip install 'edge-ferry[{runtime.value}]'"
        ) from error
    return loader
