"""A small real package whose raw values are a photograph, a text and a sound: one model takes all three."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from PIL import Image

from edge_runtime.arrays import to_array
from edge_runtime.loading import load
from edge_runtime.preprocessing import Preprocessing
from ota_contract.golden import Vector, dump_golden
from ota_contract.manifest import (
    MANIFEST_NAME,
    Binding,
    File,
    FileRole,
    Golden,
    Metrics,
    Release,
    Requirements,
    Runtime,
    Source,
    Tolerance,
    Variant,
    Verification,
    VerificationStatus,
    dump_release,
)
from ota_contract.names import parse_model
from ota_contract.preprocessing import InputSpec
from ota_contract.preprocessing_steps import (
    Casing,
    Colour,
    Decode,
    LogMel,
    Resize,
    ResizeFilter,
    ResizeMode,
    WordPiece,
)
from ota_contract.tensors import Datatype, Tensor

__all__ = ["VOCABULARY", "VOCABULARY_PATH", "photo", "raw_model", "raw_values", "write_raw_package"]

VOCABULARY = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\nworld\n##s\n!\nnaive\n"
VOCABULARY_PATH = "assets/vocabulary.txt"
_LENGTH = 8
_SAMPLES = 400


def photo(seed: int = 0) -> bytes:
    """A JPEG of 20 × 30 pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def raw_values(seed: int = 0) -> dict[str, Any]:
    """One sample, as an app would give it."""
    sound = np.random.default_rng(seed).integers(-9_000, 9_000, (1, _SAMPLES), dtype=np.int16)
    return {"photo": photo(seed), "text": ("Hello worlds!", "naïve hello", "")[seed % 3], "sound": sound}


def write_raw_package(
    folder: Path, *, version: str = "1.0.0", counter: int = 1, flipped: bool = False
) -> Release:
    """Write a complete package; with `flipped`, its golden tensors are of images in another colour order."""
    folder.mkdir(parents=True)
    model = _write(folder, "variants/onnx-fp32/model.onnx", raw_model(), FileRole.MODEL)
    vocabulary = _write(folder, VOCABULARY_PATH, VOCABULARY, FileRole.VOCABULARY)
    release = _release(model, vocabulary, version, counter)
    golden = _write(folder, "golden.json", _golden(folder, release, flipped=flipped), FileRole.GOLDEN)
    release = replace(release, golden=Golden(file=golden, vectors=3))
    (folder / MANIFEST_NAME).write_bytes(dump_release(release))
    return release


def _specs(colour: Colour = Colour.RGB) -> tuple[InputSpec, ...]:
    resize = Resize(height=4, width=6, filter=ResizeFilter.BILINEAR, antialias=True, mode=ResizeMode.COVER)
    mel = LogMel(
        sample_rate=8_000,
        frame_length=128,
        frame_step=64,
        fft_length=128,
        mels=5,
        f_min=0.0,
        f_max=4_000.0,
        floor=1e-6,
    )
    tokens = WordPiece(
        vocabulary=hashlib.sha256(VOCABULARY).hexdigest(),
        casing=Casing.UNCASED,
        length=_LENGTH,
        input_ids="ids",
        attention_mask="mask",
    )
    return (
        InputSpec(
            input="photo",
            raw_datatype=Datatype.BYTES,
            raw_shape=(-1,),
            steps=(Decode(colour=colour), resize),
            tolerance=4.0,
        ),
        InputSpec(input="text", raw_datatype=Datatype.BYTES, raw_shape=(-1,), steps=(tokens,)),
        InputSpec(
            input="sound",
            raw_datatype=Datatype.INT16,
            raw_shape=(-1, _SAMPLES),
            steps=(mel,),
            tolerance=1e-3,
        ),
    )


def _release(model: File, vocabulary: File, version: str, counter: int) -> Release:
    inputs = (
        Tensor(name="photo", datatype=Datatype.UINT8, shape=(-1, 4, 6, 3), layout="NHWC"),
        Tensor(name="ids", datatype=Datatype.INT64, shape=(-1, _LENGTH)),
        Tensor(name="mask", datatype=Datatype.INT64, shape=(-1, _LENGTH)),
        Tensor(name="sound", datatype=Datatype.FP32, shape=(-1, 5, 5)),
    )
    variant = Variant(
        id="onnx-fp32",
        runtime=Runtime.ONNX,
        precision="fp32",
        files=(model,),
        requires=Requirements(),
        inputs=tuple(Binding(name=tensor.name, inner=tensor.name) for tensor in inputs),
        outputs=(Binding(name="scores", inner="scores"),),
        metrics=Metrics(size_bytes=model.length_bytes),
        verification=Verification(status=VerificationStatus.PASSED, how="made by a test"),
        tolerances=(Tolerance(output="scores", max_abs=1e-3),),
        rank=0,
    )
    return Release(
        name=parse_model("vision/digits"),
        version=version,
        counter=counter,
        floor=0,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        license="CC0-1.0",
        source=Source(framework="onnx", sha256="0" * 64),
        inputs=inputs,
        outputs=(Tensor(name="scores", datatype=Datatype.FP32, shape=(-1, 4)),),
        labels=(),
        preprocessing=_specs(),
        golden=Golden(
            file=File(path="golden.json", length_bytes=0, sha256="0" * 64, role=FileRole.GOLDEN), vectors=3
        ),
        variants=(variant,),
        toolchain=(),
        assets=(vocabulary,),
    )


def _golden(folder: Path, release: Release, *, flipped: bool) -> bytes:
    model = load(release, release.variants[0], folder)
    told = replace(release, preprocessing=_specs(Colour.BGR)) if flipped else release
    preprocessing = Preprocessing.of_release(told, folder)
    vectors = []
    for seed in range(3):
        raw = raw_values(seed)
        tensors = preprocessing.prepare(raw)
        carried = {
            name: np.array([value], dtype=object) if isinstance(value, (bytes, str)) else value
            for name, value in raw.items()
        }
        vectors.append(
            Vector(
                raw={name: to_array(value) for name, value in carried.items()},
                tensors={name: to_array(value) for name, value in tensors.items()},
                outputs={name: to_array(value) for name, value in model.run(tensors).items()},
            )
        )
    return dump_golden(tuple(vectors))


def raw_model() -> bytes:
    """scores: the photograph's mean red over 255, the mean of ids, of the mask, and of the sound."""
    nodes = [
        helper.make_node("Slice", ["photo", "zero", "one", "last"], ["red"]),
        helper.make_node("Cast", ["red"], ["red_float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["red_float", "full"], ["share"]),
        helper.make_node("Cast", ["ids"], ["ids_float"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["mask"], ["mask_float"], to=TensorProto.FLOAT),
    ]
    parts = []
    for name in ("share", "ids_float", "mask_float", "sound"):
        nodes += [
            helper.make_node("Flatten", [name], [f"{name}_flat"]),
            helper.make_node("ReduceMean", [f"{name}_flat"], [f"{name}_mean"], axes=[1], keepdims=1),
        ]
        parts.append(f"{name}_mean")
    nodes.append(helper.make_node("Concat", parts, ["scores"], axis=1))
    graph = helper.make_graph(
        nodes,
        "raw",
        [
            helper.make_tensor_value_info("photo", TensorProto.UINT8, ["n", 4, 6, 3]),
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", _LENGTH]),
            helper.make_tensor_value_info("mask", TensorProto.INT64, ["n", _LENGTH]),
            helper.make_tensor_value_info("sound", TensorProto.FLOAT, ["n", 5, 5]),
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 4])],
        [
            helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("last", TensorProto.INT64, [1], [3]),
            helper.make_tensor("full", TensorProto.FLOAT, [], [255.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _write(folder: Path, path: str, data: bytes, role: FileRole) -> File:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return File(path=path, length_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), role=role)
