"""A .pt2 file as an archive: what is in it, and a copy that is safe to open.

`torch.export.load` unpickles freely: example inputs always, tensors and constants where the file says
so; it also loads compiled code. Here the archive is read without PyTorch, and what PyTorch is given is a
copy of raw tensors and the checked program alone. That the copy is written anew also means that PyTorch
sees what was checked, whatever two readers of zip files may disagree about.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from converter.archives import ArchiveError, check_archive
from converter.errors import SourceError
from converter.pt2.program import UnsafeProgramError, cleaned_program

__all__ = ["ADVICE", "check_pt2", "write_safe_copy"]

_MAX_BYTES = 16 * 2**30
_MAX_JSON_BYTES = 256 * 2**20
_ZIP = b"PK\x03\x04"
ADVICE = (
    "load the model where you trust it, and "
    "torch.export.save(torch.export.export(model.eval(), (example,)), 'model.pt2')"
)
"""What to do instead; ends a sentence."""
_PROGRAM = "models/model.json"
_WEIGHTS = "data/weights/model_weights_config.json"
_CONSTANTS = "data/constants/model_constants_config.json"
_PAYLOAD = re.compile(r"(?:weight|tensor)_\d{1,9}", re.ASCII)
_LEFT_OUT = re.compile(
    r"data/sample_inputs/model\.pt|extra/.*|archive_format|archive_version|byteorder|version"
    r"|\.data/\w+|data/(?:weights/weight|constants/tensor)_\d{1,9}|\.format_version|\.storage_alignment"
)
"""What is not copied, or copied by name; anything else is not known and refuses the file."""
_COMPILED = ("data/aotinductor/", "data/executorch/", "data/mtia", "xl_model_weights/")
_COPY_BYTES = 2**20


def check_pt2(path: Path, head: bytes, shown: str) -> None:
    """Refuse what is no .pt2 file, is damaged, or would run code.

    Args:
        path: The file, not verified.
        head: Its first bytes.
        shown: The file as messages name it.

    Raises:
        SourceError: Saying what it is and what to do.
    """
    if not head.startswith(_ZIP):
        begins = head[:8].hex(" ") or "nothing"
        raise SourceError(f"{shown} is not a .pt2 file: it begins with {begins}; {ADVICE}")
    for _ in _safe_members(path, shown):
        pass


def write_safe_copy(path: Path, shown: str, copy: Path) -> None:
    """Write a .pt2 file that holds the same program and tensors, and nothing that could run.

    Raises:
        SourceError: As `check_pt2`; whatever was written is of no use.
    """
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as target:
        for name, content in _safe_members(path, shown):
            with target.open(f"model/{name}", "w", force_zip64=True) as out:
                if isinstance(content, bytes):
                    out.write(content)
                    continue
                with source.open(content) as stream:
                    shutil.copyfileobj(stream, out, _COPY_BYTES)


def _safe_members(path: Path, shown: str) -> Iterator[tuple[str, bytes | zipfile.ZipInfo]]:
    """Names of the copy's members, and their bytes or where they are in the source."""
    try:
        check_archive(path, max_bytes=_MAX_BYTES)
        with zipfile.ZipFile(path) as archive:
            yield from _members(archive, shown)
    except (ArchiveError, zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        raise SourceError(f"{shown} is not a readable .pt2 file: {error}; save it again") from error
    except UnsafeProgramError as error:
        raise SourceError(f"{shown} {error}; it was not opened") from error


def _members(archive: zipfile.ZipFile, shown: str) -> Iterator[tuple[str, bytes | zipfile.ZipInfo]]:
    members = _below_root(archive, shown)
    _check_kind(members, shown)
    yield "archive_format", b"pt2"
    yield "archive_version", b"0"
    yield ".data/version", b"6\n"
    yield "byteorder", b"little"
    yield "data/sample_inputs/model.pt", b""  # a pickle, which only shows how the model was called
    yield _PROGRAM, json.dumps(cleaned_program(_json(archive, members[_PROGRAM], shown))).encode()
    for name, folder in ((_WEIGHTS, "data/weights/"), (_CONSTANTS, "data/constants/")):
        config = _json(archive, members[name], shown)
        entries, payloads = _tensors(config, members, folder)
        yield name, json.dumps({"config": entries}).encode()
        for payload in payloads:
            yield folder + payload, members[folder + payload]


def _below_root(archive: zipfile.ZipFile, shown: str) -> dict[str, zipfile.ZipInfo]:
    """Members by their name below the one folder all of them are in."""
    roots = {member.filename.partition("/")[0] for member in archive.infolist()}
    if len(roots) > 1:
        # PyTorch before 2.8 wrote members without a folder, all of them pickles
        old = any(member.filename == "serialized_exported_program.json" for member in archive.infolist())
        what = "was saved by a PyTorch older than 2.9, as pickles" if old else "is no .pt2 file"
        raise SourceError(f"{shown} {what}; {ADVICE}")
    return {member.filename.partition("/")[2]: member for member in archive.infolist()}


def _check_kind(members: Mapping[str, zipfile.ZipInfo], shown: str) -> None:
    if "data.pkl" in members:
        torchscript = "constants.pkl" in members
        what = "a TorchScript archive" if torchscript else "a pickle of torch.save"
        raise SourceError(f"{shown} is {what}, which runs code when opened; it was not opened; {ADVICE}")
    for name in members:
        if name.startswith(_COMPILED):
            raise SourceError(f"{shown} holds compiled code ({name[:60]}); it was not opened; {ADVICE}")
        if name.startswith("models/") and name != _PROGRAM:
            raise SourceError(f"{shown} holds the model {name[7:67]!r} besides or instead of one; {ADVICE}")
        if name in ("data/weights/model.pt", "data/constants/model.pt"):
            raise SourceError(f"{shown} was saved by a PyTorch older than 2.9, as pickles; {ADVICE}")
        if re.match(r"data/constants/(?:custom|opaque)_obj_", name):
            raise SourceError(f"{shown} holds a pickled object ({name[:60]}); it was not opened; {ADVICE}")
        if name not in (_PROGRAM, _WEIGHTS, _CONSTANTS) and not _LEFT_OUT.fullmatch(name):
            raise SourceError(f"{shown} holds {name[:60]!r}, which no .pt2 file does; {ADVICE}")
    missing = [name for name in (_PROGRAM, _WEIGHTS, _CONSTANTS) if name not in members]
    if missing:
        raise SourceError(f"{shown} is a zip file without {missing[0]}, so not a .pt2 file; {ADVICE}")


def _json(archive: zipfile.ZipFile, member: zipfile.ZipInfo, shown: str) -> object:
    if member.file_size > _MAX_JSON_BYTES:
        raise SourceError(f"{shown}: {member.filename[:60]} is longer than {_MAX_JSON_BYTES} bytes")
    try:
        return json.loads(archive.read(member))
    except (ValueError, RecursionError, zipfile.BadZipFile) as error:
        raise SourceError(f"{shown}: {member.filename[:60]} is damaged ({error}); save it again") from error


def _tensors(
    config: object, members: Mapping[str, zipfile.ZipInfo], folder: str
) -> tuple[dict[str, Any], list[str]]:
    """What a table of tensors says, and the members it says it of."""
    entries = config.get("config") if isinstance(config, dict) else None
    if not isinstance(entries, dict):
        raise UnsafeProgramError("is damaged: a table of its tensors is missing")
    payloads: dict[str, None] = {}
    for name, entry in entries.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("path_name"), str):
            raise UnsafeProgramError(f"is damaged: the place of {name[:60]!r} is missing")
        path = entry["path_name"]
        if entry.get("use_pickle") is not False or not _PAYLOAD.fullmatch(path):
            raise UnsafeProgramError(f"holds {name[:60]!r} as a pickle, which runs code when opened")
        if folder + path not in members:
            raise UnsafeProgramError(f"is damaged: the bytes of {name[:60]!r} are missing")
        payloads[path] = None
    return entries, list(payloads)
