"""Reads weights that lie in files beside an ONNX model, and nowhere else."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import onnx

from converter.errors import SourceError
from converter.passes.onnx_graphs import all_tensors
from converter.recipe import shown_path
from converter.source_file import digest_file

__all__ = ["read_external"]

_MAX_FILES = 10_000


def read_external(model: Any, path: Path, digest: str, *, max_bytes: int) -> str:  # noqa: ANN401
    """Put external weights into the model; returns the SHA-256 of all files together.

    Args:
        model: Parsed without its external data; changed in place.
        path: Its file. Weights must lie in its folder or below, symbolic links followed.
        digest: SHA-256 of that file, returned as it is where nothing is external.
        max_bytes: How much weights may take together.

    Raises:
        SourceError: A location leads outside, is missing, or is shorter than the tensor.
    """
    files: dict[str, Path] = {}
    total = 0
    for name, tensor in all_tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {item.key: item.value for item in tensor.external_data}
        location = entries.get("location", "")
        if location not in files:
            files[location] = _inside(path, location, name)
        length = _length(tensor)
        total += length
        if total > max_bytes:
            raise SourceError(f"{shown_path(path)}: weights of more than {max_bytes} bytes are not supported")
        tensor.raw_data = _read(files[location], entries, length, f"{shown_path(path)}: {name}")
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
    if not files:
        return digest
    if len(files) > _MAX_FILES:
        raise SourceError(f"{shown_path(path)}: weights in {len(files)} files, at most {_MAX_FILES}")
    together = hashlib.sha256(digest.encode())
    for location in sorted(files):
        together.update(f"\n{location} {digest_file(files[location])}".encode())
    return together.hexdigest()


def _inside(path: Path, location: str, name: str) -> Path:
    shown = shown_path(path)
    parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
    absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor
    folder = path.resolve().parent
    found = folder / location
    if not location or absolute or ".." in parts or not found.resolve().is_relative_to(folder):
        raise SourceError(
            f"{shown}: the weights of {name} lie at {location[:80]!r}, outside the model's folder; refused"
        )
    if not found.is_file():
        raise SourceError(f"{shown}: {location!r}, which holds the weights of {name}, is not there")
    return found


def _length(tensor: Any) -> int:  # noqa: ANN401
    if any(length < 0 for length in tensor.dims):
        raise SourceError(f"{tensor.name} has a negative dimension")
    try:
        item = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{tensor.name} is of an unknown type") from error
    return int(math.prod(tensor.dims)) * int(item)


def _read(path: Path, entries: dict[str, str], length: int, shown: str) -> bytes:
    try:
        offset, stated = int(entries.get("offset", "0")), int(entries.get("length", str(length)))
    except ValueError as error:
        raise SourceError(f"{shown}: its place in {path.name} is not a number") from error
    if stated != length or offset < 0:
        raise SourceError(f"{shown}: {stated} bytes at {offset} of {path.name}, its shape takes {length}")
    with path.open("rb") as stream:
        stream.seek(offset)
        content = stream.read(length)
    if len(content) != length:
        raise SourceError(f"{shown}: {path.name} is cut short")
    return content
