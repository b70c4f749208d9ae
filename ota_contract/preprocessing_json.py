"""The JSON of preprocessing steps: parsed within bounds, and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import Enum
from typing import Any

from ota_contract.documents import Reader
from ota_contract.preprocessing_steps import (
    DEFAULT_PIXELS,
    MAX_PIXELS,
    MAX_SAMPLES,
    Affine,
    Casing,
    Cast,
    Colour,
    Crop,
    Decode,
    FilterNorm,
    FitLength,
    LogMel,
    LogScale,
    MelScale,
    Operation,
    Orientation,
    Reshape,
    Resize,
    ResizeFilter,
    ResizeMode,
    Step,
    Transpose,
    Window,
    WordPiece,
)
from ota_contract.tensors import DYNAMIC, MAX_RANK, Datatype

__all__ = ["step_from", "step_to_json"]

_MAX_SIDE = 4096
_MAX_CHANNELS = 4096
_MAX_FRAME = 65_536
_MAX_MELS = 512
_MAX_RATE = 384_000
_MAX_TOKENS = 8192
_MAX_NAME = 64


def step_from(reader: Reader) -> Step:
    """Parse one step.

    Raises:
        FormatError: An unknown operation, or a parameter missing or out of bounds.
    """
    operation = reader.member("operation", Operation)
    return _PARSERS[operation](reader, reader.boolean("folded", default=False))


def step_to_json(step: Step) -> dict[str, Any]:
    """The inverse of `step_from`."""
    values = {field.name: _plain(getattr(step, field.name)) for field in fields(step)}
    if isinstance(step, Affine):
        for name in ("scale", "offset"):
            values[name] = values[name][0] if len(values[name]) == 1 else values[name]
        if step.axis == -1:  # as manifests had it before channels
            del values["axis"]
    return {"operation": step.operation.value, **values}


def _plain(value: object) -> Any:  # noqa: ANN401 - a JSON value
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def _reshape(reader: Reader, folded: bool) -> Step:  # noqa: FBT001 - a table's row
    shape = reader.integers("shape", max_items=MAX_RANK, low=DYNAMIC, high=2**31 - 1)
    if shape.count(DYNAMIC) > 1:
        reader.fail("shape", "at most one dimension can be worked out from the rest")
    return Reshape(folded=folded, shape=shape)


def _cast(reader: Reader, folded: bool) -> Step:  # noqa: FBT001
    datatype = reader.member("datatype", Datatype)
    if datatype is Datatype.BYTES:
        reader.fail("datatype", "nothing is cast to BYTES")
    return Cast(folded=folded, datatype=datatype)


def _affine(reader: Reader, folded: bool) -> Step:  # noqa: FBT001
    scale = reader.numbers("scale", max_items=_MAX_CHANNELS)
    offset = reader.numbers("offset", max_items=_MAX_CHANNELS)
    if len(scale) > 1 < len(offset) and len(scale) != len(offset):
        reader.fail("offset", f"{len(offset)} channels, but the scale has {len(scale)}")
    axis = reader.integer("axis", low=-MAX_RANK, high=-1, default=-1)
    return Affine(folded=folded, scale=scale, offset=offset, axis=axis)


def _transpose(reader: Reader, folded: bool) -> Step:  # noqa: FBT001
    axes = reader.integers("axes", max_items=MAX_RANK, low=0, high=MAX_RANK)
    if sorted(axes) != list(range(len(axes))) or axes[:1] != (0,):
        reader.fail("axes", f"{list(axes)} is no order of axes that begins with the batch's, 0")
    return Transpose(folded=folded, axes=axes)


def _decode(reader: Reader, folded: bool) -> Step:  # noqa: FBT001
    if folded:
        reader.fail("folded", "no graph decodes images")
    return Decode(
        colour=reader.member("colour", Colour),
        orientation=reader.member("orientation", Orientation, default=Orientation.APPLY),
        max_pixels=reader.integer("max_pixels", low=1, high=MAX_PIXELS, default=DEFAULT_PIXELS),
    )


def _resize(reader: Reader, folded: bool) -> Step:  # noqa: FBT001
    kind, antialias = reader.member("filter", ResizeFilter), reader.boolean("antialias")
    if kind is ResizeFilter.NEAREST and antialias:
        reader.fail("antialias", "nearest takes one pixel, it smooths nothing")
    if kind is ResizeFilter.LANCZOS and not antialias:
        reader.fail("antialias", "lanczos is defined with antialias only")
    return Resize(
        folded=folded,
        height=reader.integer("height", low=1, high=_MAX_SIDE),
        width=reader.integer("width", low=1, high=_MAX_SIDE),
        filter=kind,
        antialias=antialias,
        mode=reader.member("mode", ResizeMode, default=ResizeMode.STRETCH),
        pad=reader.integer("pad", high=255, default=0),
    )


def _crop(reader: Reader, folded: bool) -> Step:  # noqa: FBT001
    return Crop(
        folded=folded,
        height=reader.integer("height", low=1, high=_MAX_SIDE),
        width=reader.integer("width", low=1, high=_MAX_SIDE),
    )


def _fit_length(reader: Reader, folded: bool) -> Step:  # noqa: FBT001
    return FitLength(folded=folded, length=reader.integer("length", low=1, high=MAX_SAMPLES))


def _log_mel(reader: Reader, folded: bool) -> Step:  # noqa: FBT001
    step = LogMel(
        folded=folded,
        sample_rate=reader.integer("sample_rate", low=1, high=_MAX_RATE),
        frame_length=reader.integer("frame_length", low=2, high=_MAX_FRAME),
        frame_step=reader.integer("frame_step", low=1, high=_MAX_FRAME),
        fft_length=reader.integer("fft_length", low=2, high=_MAX_FRAME),
        mels=reader.integer("mels", low=1, high=_MAX_MELS),
        f_min=reader.number("f_min"),
        f_max=reader.number("f_max"),
        floor=reader.number("floor"),
        window=reader.member("window", Window, default=Window.HANN),
        centred=reader.boolean("centred", default=False),
        power=reader.integer("power", low=1, high=2, default=2),
        mel_scale=reader.member("mel_scale", MelScale, default=MelScale.HTK),
        norm=reader.member("norm", FilterNorm, default=FilterNorm.NONE),
        log=reader.member("log", LogScale, default=LogScale.NATURAL),
    )
    if step.fft_length < step.frame_length:
        reader.fail("fft_length", f"{step.fft_length} is shorter than a frame of {step.frame_length}")
    if not 0.0 <= step.f_min < step.f_max <= step.sample_rate / 2:
        reader.fail("f_max", f"{step.f_min:g}…{step.f_max:g} Hz do not lie in 0…{step.sample_rate / 2:g}")
    if step.floor < 1e-30:  # noqa: PLR2004 - the least that FP32 still holds well
        reader.fail("floor", f"{step.floor:g} is below 1e-30: a silent frame would have no logarithm")
    return step


def _wordpiece(reader: Reader, folded: bool) -> Step:  # noqa: FBT001
    if folded:
        reader.fail("folded", "no graph reads text")
    step = WordPiece(
        vocabulary=reader.sha256("vocabulary"),
        casing=reader.member("casing", Casing),
        length=reader.integer("length", low=2, high=_MAX_TOKENS),
        input_ids=reader.text("input_ids", max_length=_MAX_NAME),
        attention_mask=reader.text("attention_mask", max_length=_MAX_NAME, default=""),
        token_type_ids=reader.text("token_type_ids", max_length=_MAX_NAME, default=""),
        datatype=reader.member("datatype", Datatype, default=Datatype.INT64),
    )
    if step.datatype not in (Datatype.INT32, Datatype.INT64):
        reader.fail("datatype", f"token ids are INT32 or INT64, not {step.datatype.value}")
    if not step.input_ids or len(set(step.produces)) != len(step.produces):
        reader.fail("input_ids", f"{list(step.produces)} are not distinct names of inputs")
    return step


_PARSERS: Mapping[Operation, Callable[[Reader, bool], Step]] = {
    Operation.RESHAPE: _reshape,
    Operation.CAST: _cast,
    Operation.AFFINE: _affine,
    Operation.TRANSPOSE: _transpose,
    Operation.DECODE: _decode,
    Operation.RESIZE: _resize,
    Operation.CROP: _crop,
    Operation.FIT_LENGTH: _fit_length,
    Operation.LOG_MEL: _log_mel,
    Operation.WORDPIECE: _wordpiece,
}
