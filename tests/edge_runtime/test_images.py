"""Images by the executor: against Pillow, against ONNX Runtime's Resize, and what is refused."""

from __future__ import annotations

import contextlib
import struct
import sys
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from edge_runtime.errors import InputError, RuntimeNotInstalledError
from edge_runtime.port import AnyArray
from edge_runtime.preprocessing import prepare
from ota_contract.preprocessing import InputSpec
from ota_contract.preprocessing_steps import (
    MAX_ENCODED_BYTES,
    Affine,
    Colour,
    Crop,
    Decode,
    Orientation,
    Resize,
    ResizeFilter,
    ResizeMode,
    Step,
    Transpose,
)
from ota_contract.tensors import Datatype

PILLOW = {
    ResizeFilter.NEAREST: Image.Resampling.NEAREST,
    ResizeFilter.BILINEAR: Image.Resampling.BILINEAR,
    ResizeFilter.BICUBIC: Image.Resampling.BICUBIC,
    ResizeFilter.LANCZOS: Image.Resampling.LANCZOS,
}


def pixels(height: int, width: int, channels: int = 3, seed: int = 0) -> AnyArray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(image: AnyArray, kind: str = "PNG", **options: Any) -> bytes:
    stream = BytesIO()
    Image.fromarray(image.squeeze()).save(stream, kind, **options)
    return stream.getvalue()


def run(raw: Any, *steps: Step) -> AnyArray:
    """Of files where the raw value is no array, else of an array of any shape."""
    files = not isinstance(raw, np.ndarray)
    datatype, shape = (Datatype.BYTES, (-1,)) if files else (Datatype.UINT8, (-1,) * raw.ndim)
    spec = InputSpec(input="x", raw_datatype=datatype, raw_shape=shape, steps=steps)
    return prepare([spec], {"x": raw})["x"]


def resize(height: int, width: int, kind: str = "bilinear", **options: Any) -> Resize:
    values: dict[str, Any] = {"antialias": False, "mode": ResizeMode.STRETCH, "pad": 0} | options
    return Resize(height=height, width=width, filter=ResizeFilter(kind), **values)


RGB = Decode(colour=Colour.RGB)


def test_a_png_is_its_pixels_in_the_order_asked_for() -> None:
    image = pixels(5, 7)
    data = encoded(image)
    np.testing.assert_array_equal(run(data, RGB), image[None])
    np.testing.assert_array_equal(run([data], Decode(colour=Colour.BGR)), image[None, :, :, ::-1])
    weights = np.array([0.299, 0.587, 0.114])
    luma = run(data, Decode(colour=Colour.GRAY)).astype(float)
    assert np.abs(luma[0, :, :, 0] - image @ weights).max() <= 1
    assert luma.shape == (1, 5, 7, 1)


def test_a_jpeg_is_what_pillow_decodes() -> None:
    data = encoded(pixels(16, 24), "JPEG", quality=90)
    np.testing.assert_array_equal(run(data, RGB)[0], np.asarray(Image.open(BytesIO(data))))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_other_pngs_become_three_channels(mode: str) -> None:
    image = Image.fromarray(pixels(4, 6)).convert(mode)
    stream = BytesIO()
    image.save(stream, "PNG")
    np.testing.assert_array_equal(run(stream.getvalue(), RGB)[0], np.asarray(image.convert("RGB")))


def test_the_turn_a_camera_noted_is_applied_or_not() -> None:
    image = pixels(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    data = encoded(image, "PNG", exif=exif)
    assert run(data, RGB).shape == (1, 6, 4, 3)
    np.testing.assert_array_equal(run(data, RGB)[0], np.rot90(image, -1))
    ignoring = Decode(colour=Colour.RGB, orientation=Orientation.IGNORE)
    np.testing.assert_array_equal(run(data, ignoring)[0], image)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def sixteen_bits() -> bytes:
    stream = BytesIO()
    Image.fromarray(np.full((2, 3), 40_000, np.uint16)).save(stream, "PNG")
    return stream.getvalue()


def as_kind(kind: str) -> bytes:
    stream = BytesIO()
    Image.fromarray(pixels(2, 3)).save(stream, kind)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no PNG or JPEG image"),
        (b"not an image", "no PNG or JPEG image"),
        (as_kind("GIF"), "no PNG or JPEG image"),
        (as_kind("BMP"), "no PNG or JPEG image"),
        (as_kind("TIFF"), "no PNG or JPEG image"),
        (encoded(pixels(40, 30))[:-400], "no PNG or JPEG image"),
        (encoded(pixels(40, 30), "JPEG")[:200], "no PNG or JPEG image"),
        (bomb(5000, 7000), "an image of 5000 × 7000; at most 33554432 pixels"),
        (bomb(9000, 11_000), "an image of 9000 × 11000; at most"),
        (bomb(60_000, 60_000), "no PNG or JPEG image .*DecompressionBombError"),
        (sixteen_bits(), "an image of mode I;16; eight bits"),
        (bytes(MAX_ENCODED_BYTES + 1), "an image file of 33554433 bytes; at most 33554432"),
    ],
)
def test_what_is_no_image_within_bounds_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(InputError, match=f"raw input x: {why}"):
        run(data, RGB)


def test_the_steps_own_bound_is_kept() -> None:
    step = Decode(colour=Colour.RGB, max_pixels=34)
    with pytest.raises(InputError, match="an image of 7 × 5; at most 34 pixels"):
        run(encoded(pixels(5, 7)), step)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64), st.integers(0, 2000), st.sampled_from(["PNG", "JPEG"]))
def test_damaged_files_are_decoded_or_refused(noise: bytes, at: int, kind: str) -> None:
    """Never anything else than an answer or one line."""
    data = bytearray(encoded(pixels(20, 30), kind))
    data[at : at + len(noise)] = noise
    with contextlib.suppress(InputError):
        assert run(bytes(data), RGB).dtype == np.uint8


@pytest.mark.parametrize("kind", list(ResizeFilter))
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(9, 5), (30, 50), (17, 40)])
def test_with_antialias_the_reference_is_pillow(
    kind: ResizeFilter, channels: int, size: tuple[int, int]
) -> None:
    image = pixels(23, 31, channels)
    step = resize(*size, kind.value, antialias=kind is not ResizeFilter.NEAREST)
    got = run(image[None], step)
    assert got.shape == (1, *size, channels)
    for channel in range(channels):
        plane = Image.fromarray(np.ascontiguousarray(image[..., channel]))
        wanted = np.asarray(plane.resize((size[1], size[0]), PILLOW[kind]))
        np.testing.assert_array_equal(got[0, :, :, channel], wanted)


def by_onnx(image: AnyArray, size: tuple[int, int], **attributes: Any) -> AnyArray:
    """ONNX Runtime's Resize of one HWC image, in FP32."""
    node = helper.make_node(
        "Resize", ["x", "", "", "sizes"], ["y"], coordinate_transformation_mode="half_pixel", **attributes
    )
    graph = helper.make_graph(
        [node],
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None] * 4)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [helper.make_tensor("sizes", TensorProto.INT64, [4], [1, image.shape[2], *size])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    fed = image.astype(np.float32).transpose(2, 0, 1)[None]
    answer: AnyArray = session.run(None, {"x": fed})[0][0]
    return answer.transpose(1, 2, 0)


@pytest.mark.parametrize("size", [(9, 5), (46, 93), (17, 40), (1, 1)])
@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("nearest", {"mode": "nearest", "nearest_mode": "round_prefer_ceil"}),
        ("bilinear", {"mode": "linear"}),
        ("bicubic", {"mode": "cubic", "cubic_coeff_a": -0.75}),
    ],
)
def test_without_antialias_the_reference_is_onnx(
    kind: str, attributes: dict[str, Any], size: tuple[int, int]
) -> None:
    """Before rounding they agree to a ten-thousandth, so rounded values differ at halves only."""
    image = pixels(23, 31)
    wanted = by_onnx(image, size, **attributes)
    got = run(image[None], resize(*size, kind))[0].astype(np.float64)
    assert np.abs(got - np.clip(wanted, 0, 255)).max() <= 0.5 + 1e-3


SIDES = st.integers(1, 40)


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([ResizeMode.CONTAIN, ResizeMode.COVER]))
def test_contain_and_cover_keep_the_ratio(
    height: int, width: int, wanted_height: int, wanted_width: int, mode: ResizeMode
) -> None:
    """A white image stays white: where it is not, it was filled; and the ratio is kept to half a pixel."""
    white = np.full((1, height, width, 1), 255, np.uint8)
    got = run(white, resize(wanted_height, wanted_width, mode=mode, pad=7))[0, :, :, 0]
    assert got.shape == (wanted_height, wanted_width)
    if mode is ResizeMode.COVER:
        assert (got == 255).all()
        return
    rows, columns = (got == 255).any(axis=1), (got == 255).any(axis=0)
    assert set(np.unique(got)) <= {7, 255}
    assert rows.all() or columns.all()
    scale = min(wanted_height / height, wanted_width / width)
    for kept, side in ((rows, height), (columns, width)):
        assert abs(kept.sum() - max(1, side * scale)) <= 0.5 + 1e-9
        before, after = int(kept.argmax()), int(kept[::-1].argmax())
        assert after - before in (0, 1)


def test_the_middle_is_cropped() -> None:
    image = pixels(7, 10)
    np.testing.assert_array_equal(run(image[None], Crop(height=4, width=5))[0], image[1:5, 2:7])
    with pytest.raises(InputError, match=r"no 8 × 5 can be cropped out of shape \[1, 7, 10, 3\]"):
        run(image[None], Crop(height=8, width=5))


def test_photographs_of_several_sizes_become_one_batch() -> None:
    files = [encoded(pixels(11, 19, seed=1)), encoded(pixels(30, 8, seed=2))]
    steps = (RGB, resize(6, 9, antialias=True, mode=ResizeMode.COVER), Transpose(axes=(0, 3, 1, 2)))
    got = run(files, *steps)
    assert got.shape == (2, 3, 6, 9)
    for row, data in enumerate(files):
        np.testing.assert_array_equal(got[row : row + 1], run(data, *steps))
    with pytest.raises(InputError, match="different shapes; resize them first"):
        run(files, RGB)
    with pytest.raises(InputError, match="an empty batch"):
        run([], RGB)


def test_channels_are_normalised_each_by_its_own() -> None:
    image = pixels(4, 6)
    scale, offset = (0.5, 0.25, 2.0), (1.0, -1.0, 0.0)
    got = run(image[None], Affine(scale=scale, offset=offset))
    wanted = image.astype(np.float32) * np.array(scale, np.float32) + np.array(offset, np.float32)
    np.testing.assert_array_equal(got[0], wanted)
    first = run(image[None], Transpose(axes=(0, 3, 1, 2)), Affine(scale=scale, offset=offset, axis=-3))
    np.testing.assert_array_equal(first[0], wanted.transpose(2, 0, 1))
    with pytest.raises(InputError, match=r"3 channels do not meet axis -1 of shape \[1, 4, 6, 4\]"):
        run(pixels(4, 6, 4)[None], Affine(scale=scale, offset=offset))


@pytest.mark.parametrize(
    ("array", "step", "why"),
    [
        (np.zeros((1, 4, 4), np.uint8), resize(2, 2), r"resize takes UINT8 images NHWC, got uint8"),
        (np.zeros((1, 0, 4, 3), np.uint8), resize(2, 2), "resize takes UINT8 images"),
        (
            np.zeros((1, 1, 4096, 1), np.uint8),
            resize(4096, 1, mode=ResizeMode.COVER),
            "an image of 4096 × 1 would pass through 16777216 × 4096",
        ),
        (np.zeros((1, 4, 4), np.uint8), Transpose(axes=(0, 3, 1, 2)), "3 axes cannot be ordered"),
    ],
)
def test_what_does_not_fit_a_step_is_the_inputs_fault(array: AnyArray, step: Step, why: str) -> None:
    with pytest.raises(InputError, match=f"raw input x: {why}"):
        run(array, step)


def test_without_pillow_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    image = pixels(4, 6)
    assert run(image[None], resize(2, 3)).shape == (1, 2, 3, 3)
    for steps, raw in (((RGB,), b"x"), ((resize(2, 3, antialias=True),), image[None])):
        with pytest.raises(RuntimeNotInstalledError, match=r"pip install 'edge-ferry\[images\]'"):
            run(raw, *steps)
