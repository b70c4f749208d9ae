"""A model small enough to check by hand, in both runtimes, and its release.

It takes UINT8 images of 2 x 2 x 1 and gives two scores: the pixels times `WEIGHTS`. A pixel of 255 in the
first place makes ONNX's answer NaN where the model is built to.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper

from edge_runtime.arrays import to_array
from edge_runtime.port import AnyArray
from edge_runtime.preprocessing import prepare
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
from ota_contract.names import ModelName
from ota_contract.preprocessing import InputSpec
from ota_contract.preprocessing_steps import Reshape
from ota_contract.tensors import Datatype, Tensor

WEIGHTS = np.arange(8, dtype=np.float32).reshape(4, 2)

_BUILD_TFLITE = """
import sys
import numpy as np
import tensorflow as tf

class Tiny(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 2, 2, 1], tf.uint8, name="image")])
    def serve(self, image):
        pixels = tf.reshape(tf.cast(image, tf.float32), [-1, 4])
        return pixels @ tf.constant(np.arange(8, dtype=np.float32).reshape(4, 2))

tiny = Tiny()
converter = tf.lite.TFLiteConverter.from_concrete_functions([tiny.serve.get_concrete_function()], tiny)
with open(sys.argv[1], "wb") as stream:
    stream.write(converter.convert())
"""


def expected(image: AnyArray) -> AnyArray:
    """The answer, by numpy."""
    flat: AnyArray = image.reshape(len(image), 4).astype(np.float32)
    return flat @ WEIGHTS


def images(count: int, seed: int = 0) -> AnyArray:
    """Random inputs."""
    return np.random.default_rng(seed).integers(0, 200, (count, 2, 2, 1), dtype=np.uint8)


def onnx_model(*, logarithm: bool = False) -> bytes:
    """The model's bytes; with `logarithm`, of a zero pixel it answers −infinity."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["product"]),
        helper.make_node("Log" if logarithm else "Identity", ["product"], ["scores_out"]),
    ]
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [4, 2], WEIGHTS.reshape(-1))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 2, 2, 1])],
        [helper.make_tensor_value_info("scores_out", TensorProto.FLOAT, ["n", 2])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


def tflite_model(folder: Path) -> bytes:
    """The model's bytes, made once for all test processes that share the folder.

    TensorFlow stays in a process of its own: it takes seconds and half a gigabyte.
    """
    path = folder / "tiny.tflite"
    with (folder / "tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            staged = folder / "tiny.part"
            subprocess.run(
                [sys.executable, "-c", _BUILD_TFLITE, str(staged)], check=True, capture_output=True
            )
            staged.rename(path)
    return path.read_bytes()


def of_one_sample(data: bytes) -> bytes:
    """The TFLite model as exporters of fixed shapes write it."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    for tensor in model.subgraphs[0].tensors:
        tensor.shapeSignature = None
    before, after = (np.array(shape, np.int32).tobytes() for shape in ([-1, 4], [1, 4]))
    for buffer in model.buffers:
        if buffer.data is not None and bytes(buffer.data) == before:
            buffer.data = np.frombuffer(after, np.uint8)
    for operator in model.subgraphs[0].operators:
        if isinstance(operator.builtinOptions, schema.ReshapeOptionsT):
            operator.builtinOptions.newShape = [1, 4]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def golden_vectors(count: int = 2) -> bytes:
    """Vectors whose raw images lack the channel, which preprocessing puts there."""
    vectors = []
    for index in range(count):
        raw = images(1, seed=index)[..., 0]
        tensors = prepare(tiny_specs(), {"image": raw})
        outputs = {"scores": to_array(expected(tensors["image"]))}
        arrays = {name: to_array(array) for name, array in tensors.items()}
        vectors.append(Vector(raw={"image": to_array(raw)}, tensors=arrays, outputs=outputs))
    return dump_golden(tuple(vectors))


def tiny_specs() -> tuple[InputSpec, ...]:
    """How a raw image becomes the input."""
    reshape = Reshape(shape=(-1, 2, 2, 1))
    return (InputSpec(input="image", raw_datatype=Datatype.UINT8, raw_shape=(-1, 2, 2), steps=(reshape,)),)


def file_of(path: str, data: bytes, role: FileRole) -> File:
    """A manifest's entry of some bytes."""
    return File(path=path, length_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), role=role)


def tiny_variant(runtime: Runtime, data: bytes, **changes: Any) -> Variant:
    """The variant of a runtime, with its model's bytes."""
    output = {Runtime.ONNX: "scores_out", Runtime.TFLITE: "PartitionedCall:0"}.get(runtime, "scores")
    inner = "serving_default_image:0" if runtime is Runtime.TFLITE else "image"
    variant = Variant(
        id=f"{runtime.value}-fp32",
        runtime=runtime,
        precision="fp32",
        files=(file_of(f"{runtime.value}/model.bin", data, FileRole.MODEL),),
        requires=Requirements(),
        inputs=(Binding(name="image", inner=inner),),
        outputs=(Binding(name="scores", inner=output),),
        metrics=Metrics(size_bytes=len(data)),
        verification=Verification(status=VerificationStatus.PASSED, how="by hand"),
        tolerances=(Tolerance(output="scores", max_abs=0.01),),
        rank=0,
    )
    return replace(variant, **changes)


def write_package(folder: Path, models: dict[Runtime, bytes], golden: bytes | None = None) -> Release:
    """Write a package of the given models; returns its release."""
    golden = golden_vectors() if golden is None else golden
    variants = tuple(tiny_variant(runtime, data) for runtime, data in models.items())
    release = Release(
        name=ModelName("vision", "tiny"),
        version="1.0.0",
        counter=1,
        floor=1,
        created=datetime(2026, 1, 2, tzinfo=UTC),
        license="Apache-2.0",
        source=Source(framework="onnx", sha256="0" * 64),
        inputs=(Tensor(name="image", datatype=Datatype.UINT8, shape=(-1, 2, 2, 1), layout="NHWC"),),
        outputs=(Tensor(name="scores", datatype=Datatype.FP32, shape=(-1, 2)),),
        labels=(),
        preprocessing=tiny_specs(),
        golden=Golden(file=file_of("golden.json", golden, FileRole.GOLDEN), vectors=2),
        variants=variants,
        toolchain=(),
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "golden.json").write_bytes(golden)
    for variant, data in zip(variants, models.values(), strict=True):
        path = folder / variant.model_file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / MANIFEST_NAME).write_bytes(dump_release(release))
    return release
