"""Opens a variant on this machine: by its own runtime, or by what stands in for one that is not to be had."""

from __future__ import annotations

from pathlib import Path

from converter.host import runs_here
from edge_runtime.loading import load
from edge_runtime.port import LoadedModel
from ota_contract.manifest import Release, Variant

__all__ = ["open_variant"]


def open_variant(release: Release, variant: Variant, folder: Path, *, threads: int = 1) -> LoadedModel:
    """A variant, ready to run; Core ML off macOS by the reference evaluator.

    Args:
        release: What the variant belongs to.
        variant: What to open.
        folder: Of the package.
        threads: How many one inference may use.

    Raises:
        EdgeRuntimeError: The runtime is missing, or refuses the files.
        UnsupportedOperationError: The reference evaluator does not know an operation.
    """
    if runs_here(variant.runtime):
        return load(release, variant, folder, threads=threads)
    from converter.coreml_reference.runtime import load as load_reference  # noqa: PLC0415 - Core ML alone

    return load_reference(release, variant, folder, threads=threads)
