"""The operations a release's preprocessing may be made of, and their parameters.

The set is closed: a document that names another operation is refused, never skipped. What each computes is
written down in `docs/preprocessing.md`, so that another language can do the same. Their JSON, with its
bounds, is `ota_contract.preprocessing_json`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import ClassVar

from ota_contract.tensors import Datatype

__all__ = [
    "DEFAULT_PIXELS",
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

DEFAULT_PIXELS = 2**25
"""What an image may have where its step says nothing."""


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
    max_pixels: int = DEFAULT_PIXELS


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


_KINDS = (Reshape, Cast, Affine, Transpose, Decode, Resize, Crop, FitLength, LogMel, WordPiece)
PARAMETERS: Mapping[Operation, tuple[str, ...]] = {
    kind.operation: tuple(field.name for field in fields(kind) if field.name != "folded") for kind in _KINDS
}
"""The keys of each operation's JSON, besides `operation` and `folded`."""
