"""Golden vectors: known inputs and answers a device checks itself with before a release goes live.

Two levels: `raw → tensors` proves the preprocessing, `tensors → outputs` the model. The expected
outputs are those of the source model; each variant's tolerances in the manifest say how far its own may
lie. The file is a JSON document with base64 data, so that any language can read it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ota_contract.documents import Reader, canonical_json, read_document
from ota_contract.errors import FormatError
from ota_contract.tensors import MAX_RANK, Array, Datatype

__all__ = ["FORMAT", "MAX_GOLDEN_BYTES", "Vector", "dump_golden", "parse_golden"]

FORMAT = "ferry.golden/1"
MAX_GOLDEN_BYTES = 64 * 1024 * 1024

_MAX_VECTORS = 1024
_MAX_TENSORS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """One example: arrays by input name (raw and preprocessed) and by output name."""

    raw: Mapping[str, Array]
    tensors: Mapping[str, Array]
    outputs: Mapping[str, Array]


def parse_golden(data: bytes) -> tuple[Vector, ...]:
    """Parse a golden file from untrusted bytes.

    Raises:
        UnknownFormatError: Written in a newer or foreign format.
        FormatError: Malformed or out of bounds.
    """
    reader = read_document(data, what="golden vectors", format_=FORMAT, max_bytes=MAX_GOLDEN_BYTES)
    return tuple(
        Vector(
            raw=_arrays(item, "raw"),
            tensors=_arrays(item, "tensors"),
            outputs=_arrays(item, "outputs"),
        )
        for item in reader.objects("vectors", max_items=_MAX_VECTORS, min_items=1)
    )


def dump_golden(vectors: tuple[Vector, ...]) -> bytes:
    """Serialise golden vectors; `parse_golden` gives them back."""
    rows = [
        {
            "raw": _arrays_to_json(vector.raw),
            "tensors": _arrays_to_json(vector.tensors),
            "outputs": _arrays_to_json(vector.outputs),
        }
        for vector in vectors
    ]
    return canonical_json({"format": FORMAT, "vectors": rows})


def _arrays(reader: Reader, key: str) -> dict[str, Array]:
    return {
        name: _array(reader.object(key).object(name)) for name in reader.entries(key, max_items=_MAX_TENSORS)
    }


def _array(reader: Reader) -> Array:
    shape = reader.integers("shape", max_items=MAX_RANK, low=0, high=2**31 - 1)
    datatype = reader.member("datatype", Datatype)
    text = reader.text("data", max_length=MAX_GOLDEN_BYTES)
    try:
        return Array(datatype=datatype, shape=shape, data=base64.b64decode(text, validate=True))
    except ValueError as error:  # of base64, or an Array its bytes do not fill
        raise FormatError(f"{reader.where}: {error}") from error


def _arrays_to_json(arrays: Mapping[str, Array]) -> dict[str, Any]:
    return {
        name: {
            "datatype": array.datatype.value,
            "shape": list(array.shape),
            "data": base64.b64encode(array.data).decode(),
        }
        for name, array in arrays.items()
    }
