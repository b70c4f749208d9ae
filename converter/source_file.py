"""Looks at the source model's bytes before anything opens it.

A pickle runs code when it is opened, and so does a Keras model with a Lambda layer, a .skops file with
types of somebody's own, or a .pt2 file with pickles in it; all are refused here, unopened. What passes is
loaded by Keras in safe mode, by skops from a closed list of types, or by PyTorch from a copy without what
could run, in a process of its own. An ONNX file holds no code; it is opened, bounded and checked by
`converter.passes.onnx_source`, in a process of its own too. The graph of a SavedModel may call Python or
read files; `converter.passes.saved_model` looks at it as data first.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from converter.archives import ArchiveError, check_archive
from converter.errors import SourceError
from converter.pt2.archive import ADVICE as PT2_ADVICE
from converter.pt2.archive import check_pt2
from converter.recipe import Framework, Recipe, shown_path
from converter.saved_model_folder import check_saved_model
from converter.skops_file import ADVICE as SKOPS_ADVICE
from converter.skops_file import check_skops

__all__ = ["check_source", "digest_file"]

_MAX_BYTES = 16 * 2**30
_MAX_ONNX_BYTES = 2**31 - 1  # protobuf's own limit; weights beyond it lie in files beside
_MAX_CONFIG_BYTES = 64 * 2**20
_MEMBERS = ("config.json", "model.weights.h5")
_ZIP = b"PK\x03\x04"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_PICKLE = re.compile(rb"\x80[\x02-\x05]|\(lp\d|\(dp\d|c[a-z_][\w.]*\n[\w.]+\n")
_COMPRESSED = (
    b"x\x01", b"x^", b"x\x9c", b"x\xda", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"]\0\0", b"\x04\x22M\x18"
)  # fmt: skip
_CODE = ("Lambda", "__lambda__")
_SAFE_ROOTS = ("keras", "builtins")
_CHUNK_BYTES = 2**20
_ONE_FILE = {
    Framework.KERAS: ": model.save('model.keras')",
    Framework.ONNX: ", and name that",
    Framework.TORCH: ": torch.export.save(program, 'model.pt2')",
    Framework.SKLEARN: ": skops.io.dump(model, 'model.skops')",
}


def check_source(recipe: Recipe) -> str:
    """Refuse a source that is missing, foreign, damaged or dangerous; returns its SHA-256.

    Raises:
        SourceError: Saying what it is and what to do.
    """
    path, shown = recipe.source, shown_path(recipe.source)
    if recipe.framework is Framework.SAVEDMODEL and path.exists():
        return check_saved_model(path, shown)
    if path.is_dir():
        raise SourceError(f"{shown} is a folder; save the model as one file{_ONE_FILE[recipe.framework]}")
    try:
        with path.open("rb") as stream:
            head = stream.read(64)
    except FileNotFoundError as error:
        advice = f"; run `{recipe.made_by}` first" if recipe.made_by else ""
        raise SourceError(f"{recipe.shown}: source.path: {shown} does not exist{advice}") from error
    except OSError as error:
        raise SourceError(f"{shown}: {error.strerror}") from error
    if _PICKLE.match(head) or (recipe.framework is Framework.SKLEARN and _is_compressed(head)):
        known = {Framework.SKLEARN: f"; {SKOPS_ADVICE}", Framework.TORCH: f"; {PT2_ADVICE}"}
        todo = known.get(recipe.framework, "")
        raise SourceError(f"{shown} is a pickle, which runs code when opened; it was not opened{todo}")
    match recipe.framework:
        case Framework.KERAS:
            _check_keras(path, head, shown)
        case Framework.ONNX:
            _check_onnx(path, head, shown)
        case Framework.TORCH:
            check_pt2(path, head, shown)
        case Framework.SKLEARN:
            check_skops(path, head, shown)
    return digest_file(path)


def _is_compressed(head: bytes) -> bool:
    """Whether it begins as joblib's compressed pickles do: zlib, gzip, bzip2, xz, lzma or lz4."""
    return head.startswith(_COMPRESSED)


def _check_keras(path: Path, head: bytes, shown: str) -> None:
    _check_kind(head, shown)
    try:
        names = check_archive(path, max_bytes=_MAX_BYTES)
    except ArchiveError as error:
        raise SourceError(f"{shown} is not a readable .keras file: {error}; save it again") from error
    missing = [name for name in _MEMBERS if name not in names]
    if missing:
        raise SourceError(f"{shown} is a zip file without {missing[0]}, so not a .keras file")
    _check_config(_read_config(path, shown), shown)


def _check_onnx(path: Path, head: bytes, shown: str) -> None:
    for magic, kind in ((_ZIP, "a zip file"), (_HDF5, "an HDF5 file"), (b"", "empty")):
        if head.startswith(magic) and (magic or not head):
            raise SourceError(f"{shown} is {kind}, not an ONNX file")
    length = path.stat().st_size
    if length > _MAX_ONNX_BYTES:
        raise SourceError(
            f"{shown}: {length} bytes, and an ONNX file has at most {_MAX_ONNX_BYTES}; "
            "save its weights beside it: onnx.save(model, path, save_as_external_data=True)"
        )


def digest_file(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _check_kind(head: bytes, shown: str) -> None:
    if head.startswith(_ZIP):
        return
    if head.startswith(_HDF5):
        raise SourceError(
            f"{shown} is a legacy HDF5 model; load it where you trust it and model.save('model.keras')"
        )
    raise SourceError(f"{shown} is not a .keras file: it begins with {head[:8].hex(' ') or 'nothing'}")


def _read_config(path: Path, shown: str) -> object:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("config.json").file_size > _MAX_CONFIG_BYTES:
                raise SourceError(f"{shown}: config.json is longer than {_MAX_CONFIG_BYTES} bytes")
            return json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, OSError, ValueError, RecursionError, NotImplementedError) as error:
        raise SourceError(f"{shown}: config.json is damaged ({error}); save the model again") from error


def _check_config(config: object, shown: str) -> None:
    for item in _objects(config):
        kind = item.get("class_name")
        if kind in _CODE:
            name = item.get("config", {}).get("name", "") if isinstance(item.get("config"), Mapping) else ""
            raise SourceError(
                f"{shown} has a Lambda layer{f' ({name})' if name else ''}, which holds code; "
                "rebuild it from Keras layers or keras.ops, and save again"
            )
        if isinstance(kind, str) and (owner := _foreign_owner(item)):
            raise SourceError(
                f"{shown} needs {owner}.{kind}, which is code outside Keras; "
                "rebuild it from Keras layers, and save again"
            )


def _foreign_owner(item: Mapping[str, Any]) -> str:
    """Who would have to bring the code of a serialised object, if it is not Keras."""
    module, registered = item.get("module"), item.get("registered_name")
    if isinstance(module, str) and module.split(".")[0] not in _SAFE_ROOTS:
        return module
    # Registered by its author as `package>name`; Keras's own classes have no package there.
    return registered.partition(">")[0] if isinstance(registered, str) and ">" in registered else ""


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, Mapping):
            yield item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
