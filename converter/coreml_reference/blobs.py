"""Reads a Core ML weight file: one header, then blobs of one type each, at 64-byte boundaries."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from converter.coreml_reference.datatypes import Array, ElementType, unpacked
from edge_runtime.errors import ModelLoadError

__all__ = ["WeightFile"]

_VERSION = 2
_SENTINEL = 0xDEADBEEF
_HEADER = struct.Struct("<II56x")  # blobs, version
_METADATA = struct.Struct("<IIQQ40x")  # sentinel, element type, bytes, offset


class WeightFile:
    """A weight file, mapped into memory."""

    def __init__(self, path: Path) -> None:
        """Map a file.

        Raises:
            ModelLoadError: It is missing or no weight file of the version known here.
        """
        self._path = path
        try:
            self._data = np.memmap(path, dtype=np.uint8, mode="r")
            _, version = _HEADER.unpack(self._data[: _HEADER.size].tobytes())
        except (OSError, ValueError, struct.error) as error:
            raise ModelLoadError(f"{path.name} cannot be read as a Core ML weight file: {error}") from error
        if version != _VERSION:
            raise ModelLoadError(f"{path.name} is a weight file of version {version}, not {_VERSION}")

    def read(self, offset: int, element: ElementType, count: int) -> Array:
        """The elements of the blob whose metadata is at an offset.

        Raises:
            ModelLoadError: The file ends before, or says that something else is there.
        """
        where = f"{self._path.name} at {offset}"
        metadata = self._data[offset : offset + _METADATA.size].tobytes()
        if len(metadata) < _METADATA.size:
            raise ModelLoadError(f"{where}: the file ends before the weight the model names")
        sentinel, kind, length, begin = _METADATA.unpack(metadata)
        if sentinel != _SENTINEL:
            raise ModelLoadError(f"{where}: no weight begins here")
        if kind != element.blob:
            raise ModelLoadError(f"{where}: holds elements of type {kind}, the model says {element.name}")
        data = self._data[begin : begin + length].tobytes()
        if len(data) < length:
            raise ModelLoadError(f"{where}: the file ends within the weight")
        try:
            return unpacked(data, element, count)
        except ValueError as error:
            raise ModelLoadError(f"{where}: {error}") from error
