"""Looks at a .skops file before skops opens it: a zip archive whose schema names every type it holds."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from converter.archives import ArchiveError, check_archive
from converter.errors import SourceError
from converter.skops_types import LOADERS, TRUSTED

__all__ = ["ADVICE", "check_skops"]

ADVICE = "save it where you trust it: skops.io.dump(model, 'model.skops')"
_MAX_BYTES = 4 * 2**30
_MAX_SCHEMA_BYTES = 256 * 2**20
_SCHEMA = "schema.json"
_ZIP = b"PK\x03\x04"
_KEYS = ("__module__", "__class__", "__loader__")
_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


def check_skops(path: Path, head: bytes, shown: str) -> None:
    """Refuse what is no .skops file, is damaged, or names a type or loader that is not on the list.

    Raises:
        SourceError: Naming the type. Nothing of the file was loaded but its schema, as JSON.
    """
    if not head.startswith(_ZIP):
        raise SourceError(f"{shown} is not a .skops file: it begins with {head[:8].hex(' ') or 'nothing'}")
    try:
        names = check_archive(path, max_bytes=_MAX_BYTES)
    except ArchiveError as error:
        raise SourceError(f"{shown} is not a readable .skops file: {error}; save it again") from error
    if _SCHEMA not in names:
        raise SourceError(f"{shown} is a zip file without {_SCHEMA}, so not a .skops file; {ADVICE}")
    try:
        _check_states(_schema(path, shown), shown)
    except RecursionError as error:
        raise SourceError(f"{shown}: {_SCHEMA} is nested too deep") from error


def _schema(path: Path, shown: str) -> object:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(_SCHEMA).file_size > _MAX_SCHEMA_BYTES:
                raise SourceError(f"{shown}: {_SCHEMA} is longer than {_MAX_SCHEMA_BYTES} bytes")
            return json.loads(archive.read(_SCHEMA))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise SourceError(f"{shown}: {_SCHEMA} is damaged ({error}); save the model again") from error


def _check_states(schema: object, shown: str) -> None:
    states = 0
    for state in _states(schema):
        states += 1
        module, name, loader = (state.get(key) for key in _KEYS)
        if f"{module}.{name}" not in TRUSTED:
            raise SourceError(
                f"{shown} holds a {str(module)[:80]}.{str(name)[:80]}, which is not among the types of "
                "scikit-learn and numpy that are loaded; it was not opened"
            )
        if loader not in LOADERS:
            raise SourceError(
                f"{shown} makes its {module}.{name} by a {str(loader)[:80]}, which can run code; "
                "it was not opened"
            )
        if loader == "RandomGeneratorNode" and _bit_generator(state) not in _BIT_GENERATORS:
            raise SourceError(f"{shown} names a random generator that numpy does not have; it was not opened")
    if not states:
        raise SourceError(f"{shown}: {_SCHEMA} describes no object; {ADVICE}")


def _states(value: object) -> Iterator[Mapping[str, Any]]:
    """Whatever skops might take for the state of an object."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, Mapping):
            if any(key in item for key in _KEYS):
                yield item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _bit_generator(state: Mapping[str, Any]) -> object:
    """The name that skops looks up among numpy's generators, and calls."""
    try:
        return json.loads(state["content"]["bit_generator"]["content"]["bit_generator"]["content"])
    except (KeyError, TypeError, ValueError):
        return None
