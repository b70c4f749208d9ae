"""Errors of running a model.

EdgeRuntimeError
├── PackageError               a package folder is incomplete or holds other bytes
├── EndpointError              the cloud endpoint cannot listen
├── RuntimeNotInstalledError   the variant's runtime is not importable here
├── ModelLoadError             the runtime refuses the model's files
├── InputError                 an input does not fit the signature
├── InferenceError             the model raised, or gave an output that cannot be right
└── GoldenMismatchError        the model runs, and its answers are not those of the release
"""

from __future__ import annotations

from ota_contract.errors import FerryError

__all__ = [
    "EdgeRuntimeError",
    "EndpointError",
    "GoldenMismatchError",
    "InferenceError",
    "InputError",
    "ModelLoadError",
    "PackageError",
    "RuntimeNotInstalledError",
]


class EdgeRuntimeError(FerryError):
    """Root of what running a model can raise."""


class PackageError(EdgeRuntimeError):
    """A package folder is incomplete or its bytes are not those of its manifest."""


class RuntimeNotInstalledError(EdgeRuntimeError):
    """The variant's runtime is not installed; the message names the extra that brings it."""


class ModelLoadError(EdgeRuntimeError):
    """The runtime could not open the model's files."""


class InputError(EdgeRuntimeError, ValueError):
    """An input is missing, unknown, or of the wrong type or shape; nothing was run."""


class InferenceError(EdgeRuntimeError):
    """The model raised during inference, or an output has a wrong shape, NaN or infinity."""


class EndpointError(EdgeRuntimeError):
    """The endpoint cannot listen where it was told to."""


class GoldenMismatchError(EdgeRuntimeError):
    """An answer to a golden vector lies outside the variant's tolerance."""
