"""Resizing of the last axes, by the grids MIL's documentation gives, and sampling at given places."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from converter.coreml_reference.arguments import Arguments, Compute
from converter.coreml_reference.datatypes import Array

__all__ = ["OPERATIONS"]


def _grid(a: Arguments, mode: str, length: int, wanted: int) -> Array:
    """Where along an axis of some length each of the wanted samples lies."""
    places = np.arange(wanted, dtype=np.float64)
    if mode == "align_corners" and wanted == 1:
        grid = places + (length - 1) / 2
    elif mode in ("strict_align_corners", "align_corners"):
        grid = places * ((length - 1) / max(1, wanted - 1))
    elif mode == "default":
        grid = places * (length / wanted)
    elif mode == "offset_corners":
        delta = max(1, length - 1) / wanted
        grid = 0.5 * delta + places * delta
    elif mode == "unalign_corners":
        grid = (places + 0.5) * (length / wanted) - 0.5
    else:
        raise a.unsupported(f"sampling mode {mode}")
    return np.asarray(np.clip(grid, 0.0, length - 1))


def _linear(x: Array, axis: int, grid: Array) -> Array:
    low = np.floor(grid).astype(np.int64)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    share = (grid - low).reshape(-1, *(1,) * (x.ndim - 1 - axis % x.ndim))
    return np.asarray(np.take(x, low, axis) * (1.0 - share) + np.take(x, high, axis) * share)


def _bilinear(a: Arguments, x: Array, height: int, width: int, mode: str) -> Array:
    x = _linear(x, -2, _grid(a, mode, x.shape[-2], height))
    return _linear(x, -1, _grid(a, mode, x.shape[-1], width))


def _nearest(x: Array, axis: int, wanted: int) -> Array:
    length = x.shape[axis]
    places = np.floor(np.arange(wanted) * (length / wanted) + 1e-9).astype(np.int64)
    return np.asarray(np.take(x, np.minimum(places, length - 1), axis))


def _upsampled(a: Arguments, x: Array) -> tuple[int, int]:
    down, across = a.number("scale_factor_height", 1.0), a.number("scale_factor_width", 1.0)
    return int(np.floor(x.shape[-2] * down)), int(np.floor(x.shape[-1] * across))


def _upsample_nearest(a: Arguments) -> Array:
    x = a["x"]
    height, width = _upsampled(a, x)
    return _nearest(_nearest(x, -2, height), -1, width)


def _resize_nearest(a: Arguments) -> Array:
    x = _nearest(a["x"], -2, a.integer("target_size_height"))
    return _nearest(x, -1, a.integer("target_size_width"))


def _upsample_bilinear(a: Arguments) -> Array:
    x = a["x"]
    aligned = a.flag("align_corners", default=True)
    centred = a.flag("half_pixel_centers", default=not aligned)
    if aligned and centred:
        raise a.unsupported("align_corners with half_pixel_centers")
    mode = "strict_align_corners" if aligned else "unalign_corners" if centred else "default"
    return _bilinear(a, x, *_upsampled(a, x), mode)


def _resize_bilinear(a: Arguments) -> Array:
    height, width = a.integer("target_size_height", 1), a.integer("target_size_width", 1)
    return _bilinear(a, a["x"], height, width, a.text("sampling_mode", "default"))


def _resize(a: Arguments) -> Array:
    x, count = a["x"], a.integer("resized_dims")
    wanted = a.integers("shape")[-count:] if count else ()
    interpolation, mode = a.text("interpolation_mode", "linear"), a.text("sampling_mode", "default")
    for axis, asked in zip(range(x.ndim - count, x.ndim), wanted, strict=True):
        length = asked or x.shape[axis]
        if interpolation == "linear":
            x = _linear(x, axis, _grid(a, mode, x.shape[axis], length))
        elif interpolation == "nearest_neighbor" and mode == "default":
            x = _nearest(x, axis, length)
        else:
            raise a.unsupported(f"{interpolation} with sampling mode {mode}")
    return x


def _crop_resize(a: Arguments) -> Array:
    if "boxes" not in a:
        raise a.unsupported("the form before iOS 17")
    x, boxes = a["x"], a["boxes"].astype(np.float64)
    images = a.integers("box_indices", range(len(boxes)))
    corners = _corners(a, boxes) * a.number("spatial_scale", 1.0)
    if a.flag("normalized_coordinates"):
        corners = corners * np.array([x.shape[2] - 1, x.shape[3] - 1] * 2)
    height, width = a.integer("target_height", 1), a.integer("target_width", 1)
    mode = a.text("sampling_mode", "default")
    crops = []
    for image, (top, left, bottom, right) in zip(images, corners, strict=True):
        rows = _between(a, mode, top, bottom, height)
        columns = _between(a, mode, left, right, width)
        outside = _outside(rows, x.shape[2])[:, None] | _outside(columns, x.shape[3])
        crop = _linear(x[image], 1, np.clip(rows, 0, x.shape[2] - 1))
        crop = _linear(crop, 2, np.clip(columns, 0, x.shape[3] - 1))
        crops.append(np.where(outside, a.number("pad_value", 0.0), crop))
    return np.stack(crops)


def _outside(places: Array, length: int) -> Array:
    result: Array = (places < 0) | (places > length - 1)
    return result


def _corners(a: Arguments, boxes: Array) -> Array:
    """Boxes as top, left, bottom, right."""
    mode = a.text("box_coordinate_mode", "corners_height_first")
    if mode.endswith("width_first"):
        boxes = boxes[:, [1, 0, 3, 2]]
    if mode.startswith("corners"):
        return boxes
    centre, size = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1)


def _between(a: Arguments, mode: str, first: float, last: float, wanted: int) -> Array:
    """Samples between two places, which are elements and not edges."""
    if mode not in ("strict_align_corners", "align_corners"):
        raise a.unsupported(f"sampling mode {mode}")
    if wanted == 1:
        return np.array([(first + last) / 2 if mode == "align_corners" else first])
    return np.linspace(first, last, wanted)


def _resample(a: Arguments) -> Array:
    x, places = a["x"], a["coordinates"].astype(np.float64)
    padding, sampling = a.text("padding_mode"), a.text("sampling_mode")
    aligned = a.flag("align_corners")
    across = _unnormalised(a, places[..., 0], x.shape[3], aligned=aligned)
    down = _unnormalised(a, places[..., 1], x.shape[2], aligned=aligned)
    if padding not in ("constant", "border"):
        raise a.unsupported(f"padding_mode {padding}")
    if padding == "border":
        across, down = np.clip(across, 0, x.shape[3] - 1), np.clip(down, 0, x.shape[2] - 1)
    fill = a.number("padding_value") if padding == "constant" else 0.0
    if sampling == "nearest":
        return _picked(x, np.rint(down), np.rint(across), fill)
    if sampling != "bilinear":
        raise a.unsupported(f"sampling_mode {sampling}")
    top, left = np.floor(down), np.floor(across)
    lower, right = (down - top)[:, None], (across - left)[:, None]
    upper_row = _picked(x, top, left, fill) * (1 - right) + _picked(x, top, left + 1, fill) * right
    lower_row = _picked(x, top + 1, left, fill) * (1 - right) + _picked(x, top + 1, left + 1, fill) * right
    result: Array = upper_row * (1 - lower) + lower_row * lower
    return result


def _unnormalised(a: Arguments, places: Array, length: int, *, aligned: bool) -> Array:
    mode = a.text("coordinates_mode")
    if mode == "unnormalized":
        return places
    if mode == "normalized_minus_one_to_one":
        places = (places + 1) / 2
    elif mode != "normalized_zero_to_one":
        raise a.unsupported(f"coordinates_mode {mode}")
    return places * (length - 1) if aligned else places * length - 0.5


def _picked(x: Array, rows: Array, columns: Array, fill: float) -> Array:
    """Elements at whole places, one set a picture; the fill where they lie outside."""
    inside = ~(_outside(rows, x.shape[2]) | _outside(columns, x.shape[3]))
    i = np.clip(rows, 0, x.shape[2] - 1).astype(np.int64)
    j = np.clip(columns, 0, x.shape[3] - 1).astype(np.int64)
    found = np.stack([picture[:, i[n], j[n]] for n, picture in enumerate(x)])
    return np.where(inside[:, None], found, fill)


OPERATIONS: Mapping[str, Compute] = {
    "crop_resize": _crop_resize,
    "resample": _resample,
    "resize": _resize,
    "resize_bilinear": _resize_bilinear,
    "resize_nearest_neighbor": _resize_nearest,
    "upsample_bilinear": _upsample_bilinear,
    "upsample_nearest_neighbor": _upsample_nearest,
}
