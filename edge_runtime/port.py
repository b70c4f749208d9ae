"""The port every runtime implements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from ota_contract.manifest import Release, Variant

__all__ = ["AnyArray", "LoadedModel", "Loader", "RawValue"]

AnyArray = NDArray[Any]
RawValue = AnyArray | bytes | str | Sequence[bytes | str]
"""What an app gives for one raw input: an array, or BYTES one by one or several."""


class LoadedModel(Protocol):
    """A variant in memory, ready to run; safe to call from several threads."""

    @property
    def accelerator(self) -> str:
        """Where it really runs, as the runtime says, such as `cpu`."""

    def run(self, inputs: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """Run one inference.

        Args:
            inputs: Arrays by signature name, of the signature's type and shape (unchecked here).

        Returns:
            Arrays by signature name, owned by the caller.

        Raises:
            InferenceError: The runtime raised.
        """

    def close(self) -> None:
        """Release memory; running afterwards is an error."""


Loader = Callable[[Release, Variant, Path, int], LoadedModel]
"""(release, variant, folder that file paths are relative to, threads) → model."""
