"""Files of a package: what names them, what lets a damaged download be mended, what makes one from another.

A file is trusted by its SHA-256 alone. `Pieces` and `Delta` only save bytes: whatever they lead to is
compared with that digest before anything else is done with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ota_contract.documents import Reader
from ota_contract.errors import FormatError
from ota_contract.names import check_relative_path

__all__ = [
    "Delta",
    "File",
    "FileRole",
    "Pieces",
    "delta_from",
    "delta_to_json",
    "file_from",
    "file_to_json",
    "pieces_of",
]

LEAST_LENGTH_BYTES = 512 * 1024
"""Below this a damaged file is fetched again whole; its pieces would weigh more than they save."""
_LEAST_PIECE_BYTES = 4096
_MOST_PIECES = 256
"""So a damaged piece is less than one percent of its file, and all digests are 2 kB at most."""
_DIGEST_BYTES = 8
_MAX_TEXT = 4 * _MOST_PIECES * _DIGEST_BYTES


class FileRole(Enum):
    """What a file of a variant or release is for."""

    MODEL = "model"
    PART = "part"
    """Belongs to a model that is a folder (an mlpackage) or has external data; never opened alone."""
    GOLDEN = "golden"
    DELTA = "delta"
    """Makes one file from another; nobody needs it who fetches the file itself."""
    VOCABULARY = "vocabulary"
    """What a tokenizer's numbers stand for, one entry a line; of the release, not of a variant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Short digests of a file's equal pieces: they say where a download is damaged, and prove nothing.

    Each is the first eight bytes of the piece's SHA-256. Only the last piece may be shorter.
    """

    length_bytes: int
    digests: bytes

    def agrees(self, index: int, sha256: bytes) -> bool:
        """Whether this can be piece number `index`, by the binary SHA-256 of its bytes."""
        begin = index * _DIGEST_BYTES
        return sha256[:_DIGEST_BYTES] == self.digests[begin : begin + _DIGEST_BYTES]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of a package, found by `path` in the package and by `sha256` everywhere else."""

    path: str
    length_bytes: int
    sha256: str
    role: FileRole
    pieces: Pieces | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A file that makes one file of the release from a file of an earlier one."""

    file: File
    base_sha256: str
    """What a device must have."""
    target_sha256: str
    """The file of this release it makes."""


def pieces_of(chunks: Iterable[bytes], length_bytes: int) -> Pieces | None:
    """The pieces of a file of that length, read chunk by chunk; None for a small one."""
    if length_bytes < LEAST_LENGTH_BYTES:
        return None
    length = piece_length_bytes(length_bytes)
    return Pieces(length_bytes=length, digests=b"".join(map(_digest, _regroup(chunks, length))))


def piece_length_bytes(length_bytes: int) -> int:
    """The least power of two that cuts a file into at most 256 pieces, and 4096 at least."""
    length = _LEAST_PIECE_BYTES
    while length * _MOST_PIECES < length_bytes:
        length *= 2
    return length


def file_from(reader: Reader) -> File:
    """Parse one file of a manifest.

    Raises:
        FormatError: Malformed, or its pieces do not fit its length.
        InvalidNameError: Its path could leave the package.
    """
    length_bytes = reader.integer("length")
    pieces = reader.optional("pieces", _pieces_from)
    if pieces is not None:
        expected = -(-length_bytes // pieces.length_bytes)
        if expected > _MOST_PIECES or len(pieces.digests) != expected * _DIGEST_BYTES:
            reader.fail("pieces", f"they do not cut {length_bytes} bytes into {_MOST_PIECES} at most")
    return File(
        path=check_relative_path(reader.text("path")),
        length_bytes=length_bytes,
        sha256=reader.sha256("sha256"),
        role=reader.member("role", FileRole),
        pieces=pieces,
    )


def file_to_json(file: File) -> dict[str, Any]:
    """What `file_from` reads."""
    content: dict[str, Any] = {
        "path": file.path,
        "length": file.length_bytes,
        "sha256": file.sha256,
        "role": file.role.value,
    }
    if file.pieces is not None:
        digests = base64.b64encode(file.pieces.digests).decode()
        content["pieces"] = {"length": file.pieces.length_bytes, "digests": digests}
    return content


def delta_from(reader: Reader) -> Delta:
    """Parse one delta of a manifest.

    Raises:
        FormatError: Malformed.
        InvalidNameError: Its path could leave the package.
    """
    file = file_from(reader.object("file"))
    if file.role is not FileRole.DELTA:
        reader.fail("file", f"its role is not {FileRole.DELTA.value}")
    return Delta(file=file, base_sha256=reader.sha256("base"), target_sha256=reader.sha256("target"))


def delta_to_json(delta: Delta) -> dict[str, Any]:
    """What `delta_from` reads."""
    return {
        "file": file_to_json(delta.file),
        "base": delta.base_sha256,
        "target": delta.target_sha256,
    }


def _pieces_from(reader: Reader) -> Pieces:
    try:
        digests = base64.b64decode(reader.text("digests", max_length=_MAX_TEXT), validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError(f"{reader.where}: digests are not base64") from error
    return Pieces(length_bytes=reader.integer("length", low=_LEAST_PIECE_BYTES), digests=digests)


def _digest(piece: bytes) -> bytes:
    return hashlib.sha256(piece).digest()[:_DIGEST_BYTES]


def _regroup(chunks: Iterable[bytes], length: int) -> Iterator[bytes]:
    waiting = bytearray()
    for chunk in chunks:
        waiting += chunk
        while len(waiting) >= length:
            yield bytes(waiting[:length])
            del waiting[:length]
    if waiting:
        yield bytes(waiting)
