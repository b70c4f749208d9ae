"""Small real packages for tests: an ONNX model of a kilobyte, made in milliseconds, without the converter."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.arrays import to_array
from edge_runtime.loading import load
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
from ota_contract.package_files import pieces_of
from ota_contract.tensors import Datatype, Tensor

__all__ = ["TinyRelease", "image", "write_package"]

_VECTORS = 3
_CLASSES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyRelease:
    """What a test may choose of a release."""

    version: str = "1.0.0"
    counter: int = 1
    floor: int = 0
    model: str = "vision/digits"
    seed: int = 0
    """Two seeds are two models: different weights, different answers."""
    bias: float = 0.0
    padding_bytes: int = 0
    """Length of a second file of the variant, to make a download long."""
    golden_is_wrong: bool = False
    """The golden vectors expect what the model does not answer."""
    gives_nan_above: int | None = None
    """Inputs with a brighter pixel get NaN; the golden vectors stay below."""
    never_ends: bool = False
    """It computes for ever, once it is asked anything."""
    needs_bytes: int = 0
    """It needs that much memory, once it is asked anything."""
    other_variant_bytes: int = 0
    """Length of a second variant, for a runtime that devices of tests do not have."""
    ram_bytes: int = 0
    runtime_version: str = ""
    label: str = ""
    """Goes into the license field: changes the manifest's bytes and nothing else."""


def image(seed: int = 0, *, brightest: int = 16) -> np.ndarray:
    """One input for the model: UINT8 of shape [1, 8, 8, 1]."""
    return np.random.default_rng(seed).integers(0, brightest + 1, (1, 8, 8, 1), dtype=np.uint8)


def write_package(folder: Path, tiny: TinyRelease) -> Release:
    """Write a complete package; returns its manifest."""
    folder.mkdir(parents=True)
    files = [_write(folder, "variants/onnx-fp32/model.onnx", _model(tiny), FileRole.MODEL)]
    if tiny.padding_bytes:
        padding = np.random.default_rng(tiny.seed).bytes(tiny.padding_bytes)
        files.append(_write(folder, "variants/onnx-fp32/padding.bin", padding, FileRole.PART))
    variant = Variant(
        id="onnx-fp32",
        runtime=Runtime.ONNX,
        precision="fp32",
        files=tuple(files),
        requires=Requirements(ram_bytes=tiny.ram_bytes, runtime_version=tiny.runtime_version),
        inputs=(Binding(name="image", inner="image"),),
        outputs=(Binding(name="scores", inner="scores"),),
        metrics=Metrics(size_bytes=sum(file.length_bytes for file in files)),
        verification=Verification(status=VerificationStatus.PASSED, how="made by a test"),
        tolerances=(Tolerance(output="scores", max_abs=1e-4),),
        rank=0,
    )
    release = Release(
        name=parse_model(tiny.model),
        version=tiny.version,
        counter=tiny.counter,
        floor=tiny.floor,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        license=f"CC0-1.0 {tiny.label}".strip(),
        source=Source(framework="onnx", sha256=hashlib.sha256(str(tiny).encode()).hexdigest()),
        inputs=(Tensor(name="image", datatype=Datatype.UINT8, shape=(-1, 8, 8, 1), layout="NHWC"),),
        outputs=(Tensor(name="scores", datatype=Datatype.FP32, shape=(-1, _CLASSES)),),
        labels=tuple(map(str, range(_CLASSES))),
        preprocessing=(),
        golden=Golden(
            file=File(path="golden.json", length_bytes=0, sha256="0" * 64, role=FileRole.GOLDEN),
            vectors=_VECTORS,
        ),
        variants=(variant, *_other_variant(folder, variant, tiny)),
        toolchain=(),
    )
    golden = _golden(folder, release, variant, tiny)
    file = _write(folder, "golden.json", golden, FileRole.GOLDEN)
    release = replace(release, golden=Golden(file=file, vectors=_VECTORS))
    (folder / MANIFEST_NAME).write_bytes(dump_release(release))
    return release


def _other_variant(folder: Path, variant: Variant, tiny: TinyRelease) -> tuple[Variant, ...]:
    if not tiny.other_variant_bytes:
        return ()
    data = np.random.default_rng(tiny.seed + 1).bytes(tiny.other_variant_bytes)
    file = _write(folder, "variants/tflite-fp32/model.tflite", data, FileRole.MODEL)
    metrics = Metrics(size_bytes=file.length_bytes)
    other = replace(variant, id="tflite-fp32", runtime=Runtime.TFLITE, files=(file,), metrics=metrics, rank=1)
    return (other,)


def _golden(folder: Path, release: Release, variant: Variant, tiny: TinyRelease) -> bytes:
    if tiny.never_ends or tiny.needs_bytes:  # the answers are those of the harmless twin
        path = folder / variant.model_file.path
        misbehaving = path.read_bytes()
        path.write_bytes(_model(replace(tiny, never_ends=False, needs_bytes=0)))
        golden = _golden(folder, release, variant, replace(tiny, never_ends=False, needs_bytes=0))
        path.write_bytes(misbehaving)
        return golden
    model = load(release, variant, folder)
    vectors = []
    for seed in range(_VECTORS):
        tensors = {"image": image(seed)}
        outputs = model.run(tensors)
        if tiny.golden_is_wrong:
            outputs = {name: array[:, ::-1].copy() for name, array in outputs.items()}
        carried = {name: to_array(array) for name, array in tensors.items()}
        vectors.append(
            Vector(
                raw=carried,
                tensors=carried,
                outputs={name: to_array(array) for name, array in outputs.items()},
            )
        )
    model.close()
    return dump_golden(tuple(vectors))


def _model(tiny: TinyRelease) -> bytes:
    """scores = softmax(flatten(image) · W + bias), NaN where a pixel is brighter than asked for."""
    random = np.random.default_rng(tiny.seed)
    weights = random.normal(0, 0.05, (64, _CLASSES)).astype(np.float32)
    bias = np.full((_CLASSES,), tiny.bias, dtype=np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["certain"]),
    ]
    constants = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")]
    if tiny.never_ends or tiny.needs_bytes:
        constants += _misbehave(tiny, nodes)
    elif tiny.gives_nan_above is None:
        nodes.append(helper.make_node("Identity", ["certain"], ["scores"]))
    else:
        # log of a negative number is NaN; times zero it still is.
        limit = np.array([tiny.gives_nan_above + 0.5], dtype=np.float32)
        zero = np.zeros((1,), dtype=np.float32)
        constants += [numpy_helper.from_array(limit, "limit"), numpy_helper.from_array(zero, "zero")]
        nodes += [
            helper.make_node("ReduceMax", ["flat"], ["brightest"], axes=[1], keepdims=1),
            helper.make_node("Sub", ["limit", "brightest"], ["room"]),
            helper.make_node("Log", ["room"], ["logarithm"]),
            helper.make_node("Mul", ["logarithm", "zero"], ["nothing"]),
            helper.make_node("Add", ["certain", "nothing"], ["scores"]),
        ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 8, 8, 1])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", _CLASSES])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _misbehave(tiny: TinyRelease, nodes: list[onnx.NodeProto]) -> list[TensorProto]:
    """Append what runs for ever, or what needs memory; the scores are what they were before."""
    if tiny.never_ends:
        carried = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", _CLASSES]) for name in ("was", "is")
        ]
        number = helper.make_tensor_value_info("round", TensorProto.INT64, [])
        wanted = helper.make_tensor_value_info("wanted", TensorProto.BOOL, [])
        still = helper.make_tensor_value_info("still", TensorProto.BOOL, [])
        body = helper.make_graph(
            [helper.make_node("Identity", ["wanted"], ["still"]), helper.make_node("Abs", ["was"], ["is"])],
            "round",
            [number, wanted, carried[0]],
            [still, carried[1]],
        )
        nodes.append(helper.make_node("Loop", ["", "true", "certain"], ["scores"], body=body))
        return [numpy_helper.from_array(np.array(True), "true")]  # noqa: FBT003 - a tensor
    # One row of the image, repeated: known only when it is asked, so no optimizer does it beforehand.
    times = np.array([1, tiny.needs_bytes // (64 * 4)], dtype=np.int64)
    nodes += [
        helper.make_node("Tile", ["flat", "times"], ["much"]),
        helper.make_node("ReduceMax", ["much"], ["most"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["most", "most"], ["nothing"]),
        helper.make_node("Add", ["certain", "nothing"], ["scores"]),
    ]
    return [numpy_helper.from_array(times, "times")]


def _write(folder: Path, path: str, data: bytes, role: FileRole) -> File:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return File(
        path=path,
        length_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        role=role,
        pieces=pieces_of((data,), len(data)),
    )
