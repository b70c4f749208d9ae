"""Images: decoding, resizing and cropping, one at a time, within bounds.

Pillow decodes and smooths; it belongs to the `images` extra and is imported when such a step runs. Resizing
without antialias needs numpy alone, and each output pixel is a sum in one fixed order, so that every
machine makes the same bytes.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np

from edge_runtime.errors import InputError, RuntimeNotInstalledError
from edge_runtime.port import AnyArray
from ota_contract.preprocessing_steps import (
    MAX_ENCODED_BYTES,
    MAX_PIXELS,
    Colour,
    Crop,
    Decode,
    Orientation,
    Resize,
    ResizeFilter,
    ResizeMode,
)

__all__ = ["crop", "decode", "resize"]

_FORMATS = ("PNG", "JPEG")
"""Of some forty that Pillow reads: each parser is one more that bytes from outside can attack."""
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
"""Of eight bits a channel. Sixteen would be cut off, not scaled."""
_KEYS_A = -0.75
"""The free parameter of bicubic without antialias, as ONNX, OpenCV and PyTorch have it."""
_COLOURS = 3


def decode(step: Decode, encoded: Sequence[bytes]) -> AnyArray:
    """The pixels of one PNG or JPEG file, UINT8 `[1, height, width, channels]`; transparency is dropped.

    Raises:
        InputError: No such file, damaged, or larger than the step allows.
        RuntimeNotInstalledError: Pillow is not installed.
    """
    (data,) = encoded
    if len(data) > MAX_ENCODED_BYTES:
        raise InputError(f"an image file of {len(data)} bytes; at most {MAX_ENCODED_BYTES} are read")
    image_module, ops = _pillow("Image"), _pillow("ImageOps")
    try:
        with image_module.open(BytesIO(data), formats=_FORMATS) as image:  # reads the header, no pixels
            _check_header(step, image)
            turned = ops.exif_transpose(image) if step.orientation is Orientation.APPLY else image
            pixels = np.asarray(turned.convert("L" if step.colour is Colour.GRAY else "RGB"))
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever Pillow raises, the bytes are at fault
        first = f"{type(error).__name__}: {error}".partition("\n")[0][:100]
        raise InputError(f"no PNG or JPEG image that can be decoded ({first})") from error
    if step.colour is Colour.GRAY:
        return pixels[np.newaxis, :, :, np.newaxis]
    return np.ascontiguousarray(pixels[np.newaxis, :, :, ::-1] if step.colour is Colour.BGR else pixels[None])


def resize(step: Resize, images: AnyArray) -> AnyArray:
    """UINT8 images `[n, height, width, channels]` in the step's size.

    Raises:
        InputError: Not such images, or on the way there is one too large.
        RuntimeNotInstalledError: Antialias needs Pillow, which is not installed.
    """
    _check_images(images, "resize")
    size = _scaled_size(step, images.shape[1], images.shape[2])
    scaled = np.stack([_scaled(step, image, size) for image in images])
    match step.mode:
        case ResizeMode.STRETCH:
            return scaled
        case ResizeMode.COVER:
            return _middle(scaled, step.height, step.width)
        case ResizeMode.CONTAIN:
            shape = (len(images), step.height, step.width, images.shape[3])
            canvas = np.full(shape, step.pad, np.uint8)
            _middle(canvas, *size)[...] = scaled
            return canvas


def crop(step: Crop, images: AnyArray) -> AnyArray:
    """The middle of images `[n, height, width, channels]`; an odd rest is left at the bottom and right.

    Raises:
        InputError: They are smaller.
    """
    if images.ndim != 4 or images.shape[1] < step.height or images.shape[2] < step.width:  # noqa: PLR2004
        raise InputError(f"no {step.height} × {step.width} can be cropped out of shape {list(images.shape)}")
    return _middle(images, step.height, step.width)


def _check_header(step: Decode, image: Any) -> None:  # noqa: ANN401 - Pillow is imported late
    if image.width * image.height > step.max_pixels:
        raise InputError(
            f"an image of {image.width} × {image.height}; at most {step.max_pixels} pixels are decoded"
        )
    if image.mode not in _MODES:
        raise InputError(f"an image of mode {image.mode}; eight bits a channel are read")


def _check_images(images: AnyArray, what: str) -> None:
    if images.ndim != 4 or images.dtype != np.uint8 or 0 in images.shape:  # noqa: PLR2004 - NHWC
        raise InputError(f"{what} takes UINT8 images NHWC, got {images.dtype} of shape {list(images.shape)}")


def _middle(images: AnyArray, height: int, width: int) -> AnyArray:
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    return images[:, top : top + height, left : left + width]


def _scaled_size(step: Resize, height: int, width: int) -> tuple[int, int]:
    """Height and width before cutting or filling; the side that is not given rounds to the nearest."""
    if step.mode is ResizeMode.STRETCH:
        return step.height, step.width
    wider = step.width * height <= step.height * width  # than what is wanted
    by_width = wider if step.mode is ResizeMode.CONTAIN else not wider
    if by_width:
        size = max(1, (2 * height * step.width + width) // (2 * width)), step.width
    else:
        size = step.height, max(1, (2 * width * step.height + height) // (2 * height))
    if math.prod(size) > MAX_PIXELS:
        raise InputError(f"an image of {width} × {height} would pass through {size[1]} × {size[0]} pixels")
    return size


def _scaled(step: Resize, image: AnyArray, size: tuple[int, int]) -> AnyArray:
    height, width = size
    if image.shape[:2] == size:
        return image
    if step.antialias:
        return _smoothed(step.filter, image, size)
    if step.filter is ResizeFilter.NEAREST:
        return image[_nearest(image.shape[0], height)][:, _nearest(image.shape[1], width)]
    across = _interpolated(step.filter, image.astype(np.float32), 1, width)
    both = _interpolated(step.filter, across, 0, height)
    return np.clip(np.rint(both), 0, 255).astype(np.uint8)


def _smoothed(kind: ResizeFilter, image: AnyArray, size: tuple[int, int]) -> AnyArray:
    module = _pillow("Image")
    resample = getattr(module.Resampling, kind.name)
    pixels = np.ascontiguousarray(image)
    wanted = (size[1], size[0])
    if image.shape[2] == _COLOURS:
        return np.asarray(module.fromarray(pixels).resize(wanted, resample))
    planes = [
        np.asarray(module.fromarray(np.ascontiguousarray(pixels[..., channel])).resize(wanted, resample))
        for channel in range(image.shape[2])
    ]
    return np.stack(planes, axis=-1)


def _nearest(old: int, new: int) -> AnyArray:
    """The old pixel under the middle of each new one, in whole numbers: ties have no rounding error."""
    return (2 * np.arange(new, dtype=np.int64) + 1) * old // (2 * new)


def _interpolated(kind: ResizeFilter, image: AnyArray, axis: int, new: int) -> AnyArray:
    """One axis, pixels at half positions, the border repeated."""
    old = image.shape[axis]
    at = (np.arange(new, dtype=np.float64) + 0.5) * old / new - 0.5
    below = np.floor(at).astype(np.int64)
    shape = [1] * image.ndim
    shape[axis] = new
    total = np.float32(0)
    for offset, weights in _taps(kind, at - below):
        index = np.clip(below + offset, 0, old - 1)
        total = total + np.take(image, index, axis=axis) * weights.astype(np.float32).reshape(shape)
    return np.asarray(total)


def _taps(kind: ResizeFilter, part: AnyArray) -> list[tuple[int, AnyArray]]:
    if kind is ResizeFilter.BILINEAR:
        return [(0, 1 - part), (1, part)]
    return [(offset, _keys(np.abs(part - offset))) for offset in (-1, 0, 1, 2)]


def _keys(x: AnyArray) -> AnyArray:
    """Keys' cubic convolution kernel, 1981."""
    a = _KEYS_A
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, far)


def _pillow(name: str) -> Any:  # noqa: ANN401 - a module
    try:
        return importlib.import_module(f"PIL.{name}")
    except ImportError as error:
        raise RuntimeNotInstalledError(
            "this model's images need Pillow, which is not installed: pip install 'edge-ferry[images]'"
        ) from error
