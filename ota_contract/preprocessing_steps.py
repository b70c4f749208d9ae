"""The operations a release's preprocessing may be made of: their parameters, bounds and JSON.

The set is closed: a document that names another operation is refused, never skipped. What each computes is
written down in `docs/preprocessing.md`, so that another language can do the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, ClassVar

from ota_contract.documents import Reader
from ota_contract.tensors import DYNAMIC, MAX_RANK, Datatype

__all__ = [
    "MAX_ENCODED_BYTES",
    "MAX_PIXELS",
    "MAX_SAMPLES",
    "MAX_TEXT_BYTES",
    "MAX_VOCABULARY_BYTES",
    "PARAMETERS",
    "Affine",
    "Casing",
    "Cast",
    "Colour",
    "Crop",
    "Decode",
    "FilterNorm",
    "FitLength",
    "LogMel",
    "LogScale",
    "MelScale",
    "Operation",
    "Orientation",
    "Reshape",
    "Resize",
    "ResizeFilter",
    "ResizeMode",
    "Step",
    "Transpose",
    "Window",
    "WordPiece",
    "step_from",
    "step_to_json",
]

MAX_ENCODED_BYTES = 32 * 2**20
"""Of one PNG or JPEG file."""
MAX_PIXELS = 2**26
"""Of one image, decoded or on the way through a resize: 192 MiB in colour."""
MAX_SAMPLES = 2**24
"""Of one waveform: 17 minutes at 16 kHz."""
MAX_TEXT_BYTES = 2**20
"""Of one text."""
MAX_VOCABULARY_BYTES = 8 * 2**20

_MAX_SIDE = 4096
_MAX_CHANNELS = 4096
_MAX_FRAME = 65_536
_MAX_MELS = 512
_MAX_RATE = 384_000
_MAX_TOKENS = 8192
_MAX_NAME = 64
_DEFAULT_PIXELS = 2**25


class Operation(Enum):
    """What a step does to a batch of samples."""

    RESHAPE = "reshape"
    CAST = "cast"
    AFFINE = "affine"
    TRANSPOSE = "transpose"
    DECODE = "decode"
    RESIZE = "resize"
    CROP = "crop"
    FIT_LENGTH = "fit_length"
    LOG_MEL = "log_mel"
    WORDPIECE = "wordpiece"


class Colour(Enum):
    """The channels of a decoded image, in their order."""

    RGB = "rgb"
    BGR = "bgr"
    GRAY = "gray"


class Orientation(Enum):
    """What becomes of the turn a camera noted in the image's EXIF data."""

    APPLY = "apply"
    IGNORE = "ignore"


class ResizeFilter(Enum):
    """How a new pixel is made of old ones."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


class ResizeMode(Enum):
    """What becomes of the ratio of width and height."""

    STRETCH = "stretch"
    """Not kept."""
    COVER = "cover"
    """Kept; what sticks out is cut off on both sides."""
    CONTAIN = "contain"
    """Kept; what stays free on both sides is filled."""


class Window(Enum):
    """What a frame is weighed with; periodic ones."""

    HANN = "hann"
    HAMMING = "hamming"
    RECTANGULAR = "rectangular"


class MelScale(Enum):
    """Which formula makes mels of hertz."""

    HTK = "htk"
    SLANEY = "slaney"


class FilterNorm(Enum):
    """How high a triangle of the filter bank is."""

    NONE = "none"
    """1."""
    SLANEY = "slaney"
    """2 over its width in hertz: all have one area."""


class LogScale(Enum):
    """Which logarithm."""

    NATURAL = "natural"
    DECIMAL = "decimal"
    DECIBEL = "decibel"
    """Ten times the decimal one."""


class Casing(Enum):
    """Which of BERT's two kinds of vocabulary."""

    UNCASED = "uncased"
    """Text is lower-cased and stripped of accents."""
    CASED = "cased"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation with its parameters."""

    operation: ClassVar[Operation]
    folded: bool = False
    """It is part of the model's graph already; the executor skips it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshape(Step):
    """To `shape`; one −1 is worked out from the rest."""

    operation = Operation.RESHAPE
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast(Step):
    """To `datatype`, rounding halves to even and saturating at its range."""

    operation = Operation.CAST
    datatype: Datatype


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine(Step):
    """`value * scale + offset` in FP32, each one number or one per channel."""

    operation = Operation.AFFINE
    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)
    axis: int = -1
    """Of the channels, counted from the last axis."""

    def operand_shape(self, numbers: tuple[float, ...]) -> tuple[int, ...]:
        """By which `scale` or `offset` spreads over the value: `()`, or `(k, 1, 1)` for axis −3."""
        return () if len(numbers) == 1 else (len(numbers), *(1,) * (-self.axis - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transpose(Step):
    """The axes in another order, the batch's first one included: `(0, 3, 1, 2)` makes NCHW of NHWC."""

    operation = Operation.TRANSPOSE
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decode(Step):
    """A PNG or JPEG file to UINT8 pixels `[1, height, width, channels]`."""

    operation = Operation.DECODE
    colour: Colour
    orientation: Orientation = Orientation.APPLY
    max_pixels: int = _DEFAULT_PIXELS


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize(Step):
    """UINT8 NHWC images to `height` × `width`."""

    operation = Operation.RESIZE
    height: int
    width: int
    filter: ResizeFilter
    antialias: bool
    mode: ResizeMode = ResizeMode.STRETCH
    pad: int = 0
    """What `contain` fills with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop(Step):
    """The middle `height` × `width` of NHWC images."""

    operation = Operation.CROP
    height: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FitLength(Step):
    """The last axis cut at its end, or filled up with zeros there, to `length`."""

    operation = Operation.FIT_LENGTH
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMel(Step):
    """Mono waveforms `[batch, samples]` to FP32 `[batch, frames, mels]`."""

    operation = Operation.LOG_MEL
    sample_rate: int
    frame_length: int
    frame_step: int
    fft_length: int
    mels: int
    f_min: float
    f_max: float
    floor: float
    """What is below counts as this before the logarithm."""
    window: Window = Window.HANN
    centred: bool = False
    """Frame i has its middle at sample i · `frame_step`, the ends mirrored; else it begins there."""
    power: int = 2
    """Of the magnitude, 1 or 2."""
    mel_scale: MelScale = MelScale.HTK
    norm: FilterNorm = FilterNorm.NONE
    log: LogScale = LogScale.NATURAL


@dataclass(frozen=True, slots=True, kw_only=True)
class WordPiece(Step):
    """Texts to BERT's token ids `[batch, length]`: several inputs from one raw value."""

    operation = Operation.WORDPIECE
    vocabulary: str
    """SHA-256 of the file of role `vocabulary`."""
    casing: Casing
    length: int
    """Longer texts are cut, shorter ones padded."""
    input_ids: str
    """The input of the signature that takes the tokens."""
    attention_mask: str = ""
    """The one that takes 1 for a token and 0 for padding; empty: none."""
    token_type_ids: str = ""
    """The one that takes zeros: there is one sentence; empty: none."""
    datatype: Datatype = Datatype.INT64
    """Of all of them, INT32 or INT64."""

    @property
    def produces(self) -> tuple[str, ...]:
        """The inputs it makes."""
        return tuple(filter(None, (self.input_ids, self.attention_mask, self.token_type_ids)))


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
        max_pixels=reader.integer("max_pixels", low=1, high=MAX_PIXELS, default=_DEFAULT_PIXELS),
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

_KINDS = (Reshape, Cast, Affine, Transpose, Decode, Resize, Crop, FitLength, LogMel, WordPiece)
PARAMETERS: Mapping[Operation, tuple[str, ...]] = {
    kind.operation: tuple(field.name for field in fields(kind) if field.name != "folded") for kind in _KINDS
}
"""The keys of each operation's JSON, besides `operation` and `folded`."""
